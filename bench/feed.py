"""Whether the slower stage is kept at work: decoders and device together, and each alone."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.material import make_video
from bench.measure import Measurement
from inference.analyze import Analyzer, Limits
from inference.decode import Decoding, Request
from inference.device import Device
from inference.forkserver import ForkServer
from inference.frames import LONG_SIDE, FrameBatch, fit
from inference.slabs import Slabs

VIDEOS, SECONDS, ROUNDS, BATCH = 8, 8, 3, 32
LIMITS = Limits(3600)


async def measure(directory: Path) -> list[Measurement]:
    """Decoders and control have all cores but the last one, and the device has that to itself.

    Where a stage may take what the other one needs, nothing says which of them was kept waiting.
    """
    files = [
        make_video(directory / f"feed-{n}.mp4", seconds=SECONDS, seed=n) for n in range(VIDEOS)
    ]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("two cores are needed: one for the decoders, one for the device")
    device = Device("cpu")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(device.close)
        with _on(cores[-1:]):
            await device.start()
        stack.enter_context(_on(cores[:-1]))
        server = await stack.enter_async_context(ForkServer())
        await server.start()
        bench = _Bench(device, server, files)
        return [
            await _compare(bench, "5 frames a second", 5.0),
            await _compare(bench, "every frame", None),
        ]


async def _compare(bench: "_Bench", how: str, sample_fps: float | None) -> Measurement:
    ours, slower, ratios = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        counts, decode = await bench.decode(sample_fps)
        infer = await bench.infer(counts)
        together = await bench.analyze(sample_fps)
        frames = sum(map(sum, counts))
        ours.append(frames / together)
        slower.append(frames / max(decode, infer))
        ratios.append(round(max(decode, infer) / together, 3))
    return Measurement(
        f"{VIDEOS} videos at once, {how}: the slower of decoders alone and device alone",
        max(ours),
        max(slower),
        "frames/s",
        0.9,
        rounds=tuple(ratios),
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """The two stages, each of which can be timed alone."""

    device: Device
    server: ForkServer
    files: list[Path]

    async def decode(self, sample_fps: float | None) -> tuple[list[list[int]], float]:
        """Decode all files at once; the sizes of each one's batches, and the seconds."""
        started = time.perf_counter()
        counts = await asyncio.gather(*(self._decode(path, sample_fps) for path in self.files))
        return counts, time.perf_counter() - started

    async def _decode(self, path: Path, sample_fps: float | None) -> list[int]:
        slabs = _make_slabs()
        counts = []
        try:
            request = Request(path, sample_fps, BATCH, threads=1, tolerant=False)
            async with Decoding(self.server, request, LIMITS, slabs) as decoding:
                async for batch in decoding:
                    if isinstance(batch, FrameBatch):
                        counts.append(len(batch.pts_ms))
                        decoding.release(batch)
        finally:
            slabs.close()
        return counts

    async def infer(self, counts: list[list[int]]) -> float:
        """Give the device batches of these sizes, all videos at once; the seconds it took."""
        width, height = fit(1280, 720)
        random = np.random.default_rng(1)
        slabs = _make_slabs()
        pixels = slabs.frames(0, BATCH, height, width)
        pixels[:] = random.integers(0, 256, pixels.shape, np.uint8)
        started = time.perf_counter()
        try:
            await asyncio.gather(*(self._infer(slabs, each, height, width) for each in counts))
        finally:
            slabs.close()
        return time.perf_counter() - started

    async def _infer(self, slabs: Slabs, counts: list[int], height: int, width: int) -> None:
        start = 0
        async with self.device.open(slabs) as video:
            for count in counts:
                pts_ms = np.arange(start, start + count, dtype=np.float64) * 40
                batch = FrameBatch(slabs.frames(0, count, height, width), pts_ms, 0)
                await video.infer(batch)
                start += count

    async def analyze(self, sample_fps: float | None) -> float:
        """Do it all, for all files at once; the seconds it took."""
        analyzer = Analyzer(
            self.device, self.server, sample_fps=sample_fps, limits=LIMITS, batch_size=BATCH
        )
        started = time.perf_counter()
        await asyncio.gather(
            *(analyzer.analyze(path, lambda _fraction, _frames: None) for path in self.files)
        )
        return time.perf_counter() - started


def _make_slabs() -> Slabs:
    return Slabs.create(3, BATCH * LONG_SIDE * LONG_SIDE * 3)


@contextmanager
def _on(cores: list[int]) -> Iterator[None]:
    """Stay on some cores, and what is started here too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
