"""What checkpoints cost: the same analysis with many of them, and with none."""

import os
import time
from pathlib import Path

from bench.material import make_video, repeat_video
from bench.measure import Measurement
from bench.store import claim_new
from inference.analyze import Analyzer, Limits
from inference.checkpoint import Journal, NoJournal
from inference.device import Device
from inference.forkserver import ForkServer
from poller.postgres import pool
from poller.postgres.results import Results

MINUTES, SAMPLE_FPS, ROUNDS = 4, 5.0, 3
INTERVAL_SECONDS = 2.0
"""Thirty times as often as by default, so that their cost stands out."""


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
        )
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
