"""Where a shot begins, to the frame, although few frames were analysed."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.factories_video import corrupt_packets, run_ffmpeg

from inference.analyze import Analysis, Analyzer, Limits
from inference.analyzers.cuts import Cut
from inference.device import Device
from inference.forkserver import ForkServer
from inference.probe import probe
from inference.refining import MAX_CUTS, Refiner, admit_changes, plan_looks
from inference.samples import FPS, Picture, paint_scene, pan, write_video
from inference.sampling import Rate
from inference.wire import Changed

FRAME_MS = 1000 / FPS
LENGTHS = (37, 61, 43, 44, 90, 49, 52, 118)
SIZE = (160, 96)
CLOSED = {"preset": "ultrafast", "bf": "2", "x264-params": "scenecut=0"}
HEVC = "log-level=none:scenecut=0:open-gop=1"


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device on the CPU that ends with the test."""
    device = Device("cpu", threads=1)
    yield device
    await device.close()


def write_scenes(path: Path, gop: int, codec: str = "libx264") -> Path:
    """Hard cuts between scenes under a moving camera; keyframes come as they come."""
    options = {**CLOSED, "g": str(gop)}
    if codec == "libx265":
        options = {"preset": "ultrafast", "x265-params": f"{HEVC}:keyint={gop}"}
    pictures = chain.from_iterable(_sweep(seed, count) for seed, count in enumerate(LENGTHS))
    write_video(path, enumerate(pictures), codec=codec, options=options)
    return path


def _sweep(seed: int, count: int) -> Iterator[Picture]:
    scene = paint_scene(20 + seed, *SIZE)
    return (pan(scene, number / 600, *SIZE) for number in range(count))


async def analyze(path: Path, device: Device, server: ForkServer, rate: Rate) -> Analysis:
    """With small batches and the limits of a test."""
    analyzer = Analyzer(device, server, sample_fps=rate, limits=Limits(3600), batch_size=8)
    return await analyzer.analyze(path, lambda _fraction, _frames: None)


def starts_ms(analysis: Analysis) -> list[int]:
    """Where shots begin, without the first."""
    shots = [event for event in analysis.results.events if event.event_type == "shot"]
    assert all(a.end_ms == b.start_ms for a, b in pairwise(shots))
    return [shot.start_ms for shot in shots][1:]


@pytest.mark.parametrize(
    ("name", "codec", "gop", "rate"),
    [
        ("v.mp4", "libx264", 50, None),
        ("v.mp4", "libx264", 50, 5.0),
        ("v.mkv", "libx265", 40, 1.7),
        ("v.ts", "libx264", 50, 5.0),
        ("v.mp4", "libx264", 20, "keyframes"),
        ("v.ts", "libx264", 20, "keyframes"),
        ("v.mkv", "libx264", 40, "keyframes"),
    ],
)
async def test_cuts_are_those_of_every_frame(
    device: Device,
    server: ForkServer,
    tmp_path: Path,
    name: str,
    codec: str,
    gop: int,
    rate: Rate,
) -> None:
    """Sampled sparsely, or keyframes only: each shot begins with its first frame."""
    path = write_scenes(tmp_path / name, gop, codec)
    cuts = probe(path, 60, lambda: None).times_ms()[0] + np.cumsum(LENGTHS)[:-1] * FRAME_MS

    found = await analyze(path, device, server, rate)

    assert rate is None or found.frames_analyzed < 0.25 * sum(LENGTHS)
    assert starts_ms(found) == pytest.approx(cuts, abs=2.0)
    embedded = {(e.start_ms, e.end_ms) for e in found.results.embeddings if e.kind == "shot"}
    shots = {(e.start_ms, e.end_ms) for e in found.results.events if e.event_type == "shot"}
    assert embedded == shots


async def test_no_cut_between_far_keyframes(
    device: Device, server: ForkServer, tmp_path: Path
) -> None:
    """Keyframes that differ because one scene dissolves slowly into another are no cut."""
    path = tmp_path / "v.mp4"
    one, other = (paint_scene(seed, *SIZE)[:96, :160].astype(np.float32) for seed in (3, 5))
    share = np.clip((np.arange(400) - 100) / 200, 0, 1)
    pictures = ((one * (1 - s) + other * s).astype(np.uint8) for s in share)
    write_video(path, enumerate(pictures), options={**CLOSED, "g": "100"})

    found = await analyze(path, device, server, "keyframes")

    assert found.frames_analyzed == 4
    assert starts_ms(found) == []
    assert [e.end_ms for e in found.results.embeddings if e.kind == "shot"] == [
        round(400 * FRAME_MS)
    ]


async def test_damage_leaves_the_cut_where_it_was_seen(
    device: Device, server: ForkServer, tmp_path: Path
) -> None:
    """A cut in a file that cannot be trusted stays at the sampled frame; so do those behind it."""
    path = write_scenes(tmp_path / "whole.mp4", 50)
    trimmed = tmp_path / "trimmed.mp4"
    run_ffmpeg("-ss", "0.5", "-i", path, "-c", "copy", trimmed)
    every = starts_ms(await analyze(trimmed, device, server, None))

    found = await analyze(trimmed, device, server, 5.0)

    late = np.array(starts_ms(found)) - every
    assert (late >= -1).all()
    assert (late <= 200 + FRAME_MS).all()
    assert late.max() > FRAME_MS


async def test_what_was_found_before_damage_is_kept(server: ForkServer, tmp_path: Path) -> None:
    """A second look that meets damage tells of what came before it."""
    path = write_scenes(tmp_path / "v.mp4", 50)
    cuts = np.cumsum(LENGTHS)[:-1]
    seen = [
        Cut(at, (cut + 3) * FRAME_MS, 50.0, (cut - 4) * FRAME_MS) for at, cut in enumerate(cuts)
    ]
    refiner = Refiner(server, Limits(3600))
    whole = await refiner.look(path, seen, 20_000, lambda: None)
    corrupt_packets(path, 268, 282, keep=8)

    rest = await refiner.look(path, seen, 20_000, lambda: None)

    assert [whole.changes[at].at_ms for at in range(7)] == pytest.approx(cuts * FRAME_MS, abs=0.1)
    assert all(change.score > 27 for change in whole.changes.values())
    assert rest.changes == {at: whole.changes[at] for at in range(4)}
    assert whole.cpu_seconds > 0


def test_what_is_looked_at() -> None:
    """All cuts between near frames up to a bound; of the far, the clearest for a quarter of it."""
    near = [Cut(at, at * 1000.0, 30.0, at * 1000.0 - 200) for at in range(MAX_CUTS + 1)]
    far = [
        Cut(at, at * 30_000.0, 30.0 + at, (at - 1) * 30_000.0, is_far=True) for at in range(1, 11)
    ]

    looked = plan_looks(near, 1e6), plan_looks(far, 300_000), plan_looks([*near[:2], *far[:2]], 6e4)

    assert looked[0] == list(range(MAX_CUTS))
    assert looked[1] == [8, 9]
    assert looked[2] == [0, 1, 2, 3]


def test_what_a_decoder_may_say() -> None:
    """A change is believed of a span that was asked about, at a time within it."""
    spans = [(0.0, 200.0), (400.0, 600.0)]
    fine = Changed(1, 600.0, 30.0)
    wrong = [Changed(0, 0.0, 30.0), Changed(0, 201.0, 30.0), Changed(2, 500.0, 9.0)]
    negative = replace(fine, span=-1)

    admitted = admit_changes([fine, *wrong, negative], spans)

    assert admitted == {1: fine}
