"""Files that mean no good: each ends in time, as a result or with a reason, and harms no other."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.factories_video import X264, make_video, run_ffmpeg

from inference.analyze import Analysis, Analyzer, Limits
from inference.device import Device
from inference.errors import DecoderFailedError, VideoRejectedError
from inference.forkserver import ForkServer

BUDGET_SECONDS = 120
"""For one file on a busy machine; a decoder that is stuck would take its stall limit, twice."""
ENDS = {
    **dict.fromkeys(("empty.mp4", "zeros.mp4", "junk.mp4", "text.mkv", "gif.mp4"), "not_a_video"),
    "sound.mp4": "no_video_stream",
    "never.mp4": "too_long",
    **dict.fromkeys(("wrong.avi", "none", "rotated.mp4"), "20 frames"),
    **dict.fromkeys(("tiny.avi", "flat.mp4", "deep.mp4", "late.ts"), "10 frames"),
    **dict.fromkeys(("one.mp4", "8k.mp4"), "1 frames"),
    "av1.mp4": "5 frames",
}
Build = Callable[[Path], object]


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device on the CPU that ends with the test."""
    device = Device("cpu", threads=1)
    yield device
    await device.close()


def make_sources(directory: Path) -> dict[str, Path]:
    """Whole files, of which the hostile ones are made."""
    made = {
        name: make_video(directory / name, frames=96, container_options=options)
        for name, options in (
            ("whole.mp4", {"movflags": "faststart"}),
            ("whole.mkv", None),
            ("whole.ts", None),
            ("whole.avi", None),
        )
    }
    for gop in (30, 150, 450):
        options = {**X264, "g": f"{gop}"}
        made[f"{gop}"] = make_video(directory / f"gop{gop}.mp4", frames=480, options=options)
    return made


def cut(source: Path, share: float) -> Build:
    """The first part of a file."""
    content = source.read_bytes()
    return lambda path: path.write_bytes(content[: int(len(content) * share)])


def flip(source: Path, seed: int) -> Build:
    """A file with some bits turned over, anywhere."""
    content, random = bytearray(source.read_bytes()), np.random.default_rng(seed)
    for at in random.integers(0, len(content), 1 + 4 * seed):
        content[at] ^= 1 << int(random.integers(8))
    return lambda path: path.write_bytes(content)


def discard(source: Path, packets: int) -> Build:
    """A copy whose edit list leaves out so many packets of a group, as trims on phones do."""
    start = f"{packets / 24 + 0.001:.3f}"
    return lambda path: run_ffmpeg("-ss", start, "-i", source, "-c", "copy", path)


def odd_ones(sources: dict[str, Path]) -> Iterator[tuple[str, Build]]:
    """One of each kind."""
    whole = sources["whole.mp4"]
    color, sine = ("-f", "lavfi", "-i", "testsrc2=size=64x36:rate=24:duration=1"), "sine=duration=1"
    yield "empty.mp4", lambda path: path.write_bytes(b"")
    yield "zeros.mp4", lambda path: path.write_bytes(bytes(100_000))
    yield "junk.mp4", lambda path: path.write_bytes(np.random.default_rng(0).bytes(100_000))
    yield "text.mkv", lambda path: path.write_text("no video\n" * 900)
    yield "header.mp4", lambda path: path.write_bytes(whole.read_bytes()[:40])
    yield "sound.mp4", lambda path: run_ffmpeg("-f", "lavfi", "-i", sine, path)
    yield "wrong.avi", lambda path: shutil.copy(whole, path)
    yield "none", lambda path: shutil.copy(whole, path)
    yield "one.mp4", lambda path: make_video(path, frames=1)
    yield "two.ts", lambda path: make_video(path, frames=2)
    yield (
        "tiny.avi",
        lambda path: make_video(
            path, width=1, height=1, codec="mjpeg", pixel_format="yuvj444p", options={}
        ),
    )
    yield "flat.mp4", lambda path: make_video(path, width=640, height=2)
    yield "8k.mp4", lambda path: make_video(path, frames=2, width=7680, height=4320)
    yield "deep.mp4", lambda path: make_video(path, pixel_format="yuv420p10le")
    yield "uneven.mkv", lambda path: make_video(path, times_ms=[n * n * 7 for n in range(48)])
    yield "fast.mkv", lambda path: make_video(path, times_ms=range(48))
    yield "late.ts", lambda path: make_video(path, start=24 * 2**31 // 90_000)
    yield "never.mp4", lambda path: make_video(path, times_ms=[0, 3_590_000], frames=2)
    yield (
        "10000.mp4",
        lambda path: run_ffmpeg(*color, "-vf", "setpts=N/10000/TB", "-r", "10000", path),
    )
    yield (
        "rotated.mp4",
        lambda path: run_ffmpeg("-display_rotation", "90", "-i", whole, "-c", "copy", path),
    )
    yield "av1.mp4", lambda path: run_ffmpeg(*color, "-c:v", "libaom-av1", "-cpu-used", "8", path)
    yield "gif.mp4", lambda path: run_ffmpeg(*color, "-f", "gif", path)


def all_of_them(sources: dict[str, Path]) -> Iterator[tuple[str, Build]]:
    """Each with the name that its file has."""
    yield from odd_ones(sources)
    for name in ("whole.mp4", "whole.mkv", "whole.ts", "whole.avi"):
        for share in (0.02, 0.3, 0.6, 0.95):
            yield f"cut-{share}-{name}", cut(sources[name], share)
        for seed in (1, 5, 40):
            yield f"flip-{seed}-{name}", flip(sources[name], seed)
    for gop in (30, 150, 450):
        for packets in (20, 100, 131, 200):
            yield f"edit-{packets}-{gop}.mp4", discard(sources[f"{gop}"], packets)


@pytest.mark.timeout(900)
async def test_each_ends(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """As a result or with a reason, within its budget; neither device nor other videos notice."""
    sources = make_sources(tmp_path)
    limits = Limits(3600, stall_seconds=20)
    analyzer = Analyzer(device, server, sample_fps=5.0, limits=limits, batch_size=8)
    ends: dict[str, str] = {}

    async def analyze(path: Path) -> str:
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                found = await analyzer.analyze(path, lambda *_: None)
        except (VideoRejectedError, DecoderFailedError) as error:
            return error.reason
        assert isinstance(found, Analysis)
        return f"{found.frames_analyzed} frames"

    for name, build in all_of_them(sources):
        (tmp_path / name).mkdir()
        path = tmp_path / name / Path(name).with_stem("video").name
        await asyncio.to_thread(build, path)
        ends[name] = await analyze(path)
    neighbour = await analyze(sources["whole.mp4"])

    assert len(ends) >= 60
    assert {name: ends[name] for name in ENDS} == ENDS
    for packets in (20, 100, 131, 200):
        assert len({ends[f"edit-{packets}-{gop}.mp4"] for gop in (30, 150, 450)}) == 1
    assert neighbour == "20 frames"
    assert device.restarts == 0
