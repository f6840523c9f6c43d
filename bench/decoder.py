"""The memory of one decoder at 4K."""

from pathlib import Path

import psutil

from bench.material import make_video, repeat_video
from bench.measure import Measurement
from inference.analyze import SLAB_BYTES, SLABS
from inference.decode import Decoding, Limits, Request
from inference.forkserver import ForkServer
from inference.frames import LONG_SIDE, FrameBatch
from inference.manifest import MAX_FRAME_SIDE
from inference.slabs import Slabs

SECONDS, TIMES, BATCH = 4, 5, 32
CASES: dict[tuple[float | None, int], str] = {
    (5.0, LONG_SIDE): "5 frames a second",
    (None, LONG_SIDE): "every frame",
    (None, MAX_FRAME_SIDE): f"every frame, of {MAX_FRAME_SIDE} pixels for a bundle",
}
REFERENCES = 5
"""All that H.264 allows at this size (level 5.1)."""


async def measure(directory: Path) -> list[Measurement]:
    """The most that was resident at a time, slabs and shared code included, of both backends."""
    piece = make_video(
        directory / "decoder-piece.mp4", seconds=SECONDS, size="3840x2160", references=REFERENCES
    )
    path = repeat_video(directory / "decoder.mp4", piece, TIMES)
    async with ForkServer() as server:
        peaks = [await _peak(server, path, *each) for each in CASES]
    limit = 300.0
    return [
        Measurement(
            f"memory of one decoder at 4K, {how}, against {limit:g} MB",
            peak / 1e6,
            limit,
            "MB",
            1,
            "at most",
        )
        for how, peak in zip(CASES.values(), peaks, strict=True)
    ]


async def _peak(server: ForkServer, path: Path, sample_fps: float | None, side: int) -> int:
    count = min(BATCH, SLAB_BYTES // (side**2 * 3))
    slabs = Slabs.create(SLABS, count * side**2 * 3)
    peak = 0
    try:
        request = Request(path, sample_fps, count, threads=1, tolerant=False, frame_side=side)
        async with Decoding(server, request, Limits(3600), slabs) as decoding:
            async for batch in decoding:
                peak = max(peak, _high_water(decoding.pid))
                if isinstance(batch, FrameBatch):
                    decoding.release(batch)
    finally:
        slabs.close()
    if not peak:
        raise RuntimeError("the decoder was gone before its memory was read")
    return peak


def _high_water(pid: int) -> int:
    """The most that a process had resident so far, in bytes."""
    if not psutil.pid_exists(pid):
        return 0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [line for line in lines if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) * 1024 if found else 0
