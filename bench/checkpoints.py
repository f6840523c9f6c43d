"""What checkpoints cost: many of them against none, and the largest part against its limits."""

import os
import time
from pathlib import Path

import numpy as np

from bench.material import make_video, repeat_video
from bench.measure import Measurement
from bench.store import claim_new
from inference.analyze import Analyzer, Limits
from inference.checkpoint import Journal, Measured, NoJournal, Part, Stretch, write_part
from inference.device import Device
from inference.features import DESCRIPTOR_SIZE, FrameFeatures
from inference.forkserver import ForkServer
from inference.people import Detections, Reading, TrackVectors
from inference.sights import Sight, Sights
from poller.postgres import pool
from poller.postgres.checkpoints import LOAD_SECONDS, PART_BYTES, SAVE_SECONDS
from poller.postgres.results import Results

MINUTES, SAMPLE_FPS, ROUNDS = 4, 5.0, 3
INTERVAL_SECONDS = 2.0
"""Thirty times as often as by default, so that their cost stands out."""
_PERSONS, _BATCH = 10, 64


async def measure(directory: Path) -> list[Measurement]:
    """The time that analyses take longer when they are written down in Postgres as they go."""

    async def url(_: bool) -> str:
        return os.environ["POLLER_DATABASE_URL"]

    piece = make_video(directory / "piece.mp4", seconds=30)
    path = repeat_video(directory / "checkpoints.mp4", piece, 2 * MINUTES)
    device = Device("cpu")
    ours, peer = list[float](), list[float]()
    async with ForkServer() as server, pool.opened(url, max_size=2) as connections:
        try:
            for number in range(ROUNDS):
                journal = Results(connections).journal(await claim_new(connections, f"c-{number}"))
                ours.append(await _analyze(device, server, path, journal))
                peer.append(await _analyze(device, server, path, NoJournal()))
        finally:
            await device.close()
        largest = await _measure_largest(connections)
    # The difference of two noisy times, shared out over all that caused it.
    extra = (sum(ours) - sum(peer)) / sum(seconds // INTERVAL_SECONDS for seconds in ours)
    return [
        Measurement(
            "what a checkpoint costs, of the minute between two",
            max(0.0, extra),
            60.0,
            "s",
            0.02,
            "at most",
        ),
        *largest,
    ]


async def _analyze(device: Device, server: ForkServer, path: Path, journal: Journal) -> float:
    interval = float("inf") if isinstance(journal, NoJournal) else INTERVAL_SECONDS
    analyzer = Analyzer(
        device,
        server,
        sample_fps=SAMPLE_FPS,
        limits=Limits(3600),
        batch_size=32,
        checkpoint_seconds=interval,
    )
    started = time.perf_counter()
    await analyzer.analyze(path, lambda _fraction, _frames: None, journal=journal)
    return time.perf_counter() - started


async def _measure_largest(connections: pool.Pool) -> list[Measurement]:
    """Save and load a part as large as one may be; a quarter of the time for it must do."""
    journal = Results(connections).journal(await claim_new(connections, "largest"))
    part = _largest_part()
    started = time.perf_counter()
    if not await journal.save(part):
        raise RuntimeError("the largest part was not kept")
    saved = time.perf_counter()
    await journal.load()
    loaded = time.perf_counter()
    size = f"a part of {len(part.stretch) >> 20} MiB, the largest, is"
    return [
        Measurement(f"{size} saved", saved - started, SAVE_SECONDS, "s", 0.25, "at most"),
        Measurement(f"{size} loaded", loaded - saved, LOAD_SECONDS, "s", 0.25, "at most"),
    ]


def _largest_part() -> Part:
    """Ten persons in every frame, with three attributes each, until no more fit."""
    chance = np.random.default_rng(0)
    stretch, at = Stretch(), 0
    while stretch.size_bytes < PART_BYTES - (1 << 20):
        stretch.add(_some_frames(chance, at))
        at += _BATCH
    tracks = TrackVectors(np.arange(_PERSONS), chance.normal(size=(10, 768)).astype(np.float32))
    return write_part(0, stretch, {}, "bench", tracks=tracks)


def _some_frames(chance: np.random.Generator, start: int) -> Measured:
    one, two, three, four = chance.random((4, _BATCH))
    described = np.arange(_BATCH) % 5 == 0
    descriptor = chance.random((_BATCH, DESCRIPTOR_SIZE)).astype(np.float32) * described[:, None]
    features = FrameFeatures(one, two, three, one > 0.5, four, described, descriptor)
    times = np.arange(start, start + _BATCH, dtype=np.float64) * 200
    return Measured(times, features, _see(chance, described.tolist()))


def _see(
    chance: np.random.Generator, described: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Sights:
    names = dict.fromkeys(("age", "gender", "action"), ("one", "other"))
    seen = []
    for is_described in described:
        boxes = chance.random((_PERSONS, 4)).astype(np.float32).astype(np.float64)
        reading = Reading("one", float(np.float32(chance.random())), None)
        whole = chance.normal(size=768).astype(np.float32) if is_described else None
        seen.append(
            Sight(
                Detections(boxes, boxes[:, 0]),
                {name: [reading] * _PERSONS for name in names},
                [None] * _PERSONS,
                0,
                whole,
            )
        )
    return Sights.of(seen, names, 768)
