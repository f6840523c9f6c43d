"""Batches of the models across videos: what they gain on short clips, and what they cost.

The device is driven with frames directly: no decoder decides how fast they come.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np

from bench.measure import Measurement
from bench.models import write_deep_detector
from inference.device import Device, DeviceVideo
from inference.frames import FrameBatch, fit
from inference.slabs import Slabs

CLIPS, FRAMES = 64, 10
"""Two seconds at five frames a second."""
BATCH, AT_ONCE, ROUNDS = 32, 16, 3
QUIET_FRAMES, QUIET_SECONDS = 120, 0.05
"""At low load: so many frames, one each so many seconds."""
MOST_WAIT_MS = 20.0
_WIDTH, _HEIGHT = fit(1280, 720, 128)
"""Small, so that what is done for each frame alone does not hide what the batches gain."""


async def measure(directory: Path) -> list[Measurement]:
    """Clips per second, the fill of the batches, and the wait of single frames."""
    bundle = write_deep_detector(directory / "batches")
    across, padded, fitted = list[float](), list[float](), list[float]()
    fill = 0.0
    async with _device(bundle, BATCH) as device, _device(bundle, FRAMES) as small:
        for _ in range(ROUNDS):  # in turns, because the machine is not always equally fast
            padded.append(CLIPS / await _run(device, at_once=1))
            fitted.append(CLIPS / await _run(small, at_once=1))
            frames, room = device.batch_frames, device.batch_room
            across.append(CLIPS / await _run(device, at_once=AT_ONCE))
            fill = (device.batch_frames - frames) / (device.batch_room - room)
        waits = await _waits(device)
    clips = f"{CLIPS} clips of 2 s, batches across videos"
    return [
        _compare(f"{clips}: batches of one video, of the same size", across, padded, 2),
        _compare(f"{clips}: batches of one video, of a clip's size", across, fitted, 2),
        Measurement(f"{clips}: how full they are, of 95 %", 100 * fill, 95, "%", 1),
        Measurement(
            f"a frame waits for its batch at low load, p99 of {len(waits)}",
            1000 * sorted(waits)[math.ceil(0.99 * len(waits)) - 1],
            MOST_WAIT_MS,
            "ms",
            1,
            "at most",
        ),
    ]


def _compare(
    what: str, ours: Sequence[float], peer: Sequence[float], target: float | None
) -> Measurement:
    ratios = tuple(round(mine / its, 3) for mine, its in zip(ours, peer, strict=True))
    return Measurement(what, max(ours), max(peer), "clips/s", target, rounds=ratios)


@asynccontextmanager
async def _device(bundle: Path, batch_size: int) -> AsyncIterator[Device]:
    device = Device("cpu", bundle=bundle, batch_size=batch_size)
    await device.start()
    try:
        yield device
    finally:
        await device.close()


async def _run(device: Device, *, at_once: int) -> float:
    """Show the device all clips, so many at once; the seconds it took."""
    slabs = _make_slabs()
    places = asyncio.Semaphore(at_once)

    async def show() -> None:
        async with places, device.open(slabs) as video:
            await video.infer(_frames(slabs, FRAMES, 0))

    started = time.perf_counter()
    try:
        await asyncio.gather(*(show() for _ in range(CLIPS)))
    finally:
        slabs.close()
    return time.perf_counter() - started


async def _waits(device: Device) -> list[float]:
    """Seconds that single frames wait beyond what is done for them: two videos, in turns."""
    slabs = _make_slabs()
    waits = []
    async with AsyncExitStack() as stack:
        stack.callback(slabs.close)
        videos = [await stack.enter_async_context(device.open(slabs)) for _ in range(2)]
        for at in range(QUIET_FRAMES):
            await asyncio.sleep(QUIET_SECONDS)
            waits.append(await _wait(videos[at % 2], slabs, at))
    return waits


async def _wait(video: DeviceVideo, slabs: Slabs, at: int) -> float:
    started = time.perf_counter()
    inferred = await video.infer(_frames(slabs, 1, at))
    return time.perf_counter() - started - inferred.seconds


def _frames(slabs: Slabs, count: int, at: int) -> FrameBatch:
    pts_ms = np.arange(at, at + count, dtype=np.float64) * 200
    return FrameBatch(slabs.frames(0, count, _HEIGHT, _WIDTH), pts_ms, 0)


def _make_slabs() -> Slabs:
    slabs = Slabs.create(1, FRAMES * _WIDTH * _HEIGHT * 3)
    pixels = slabs.frames(0, FRAMES, _HEIGHT, _WIDTH)
    pixels[:] = np.random.default_rng(1).integers(0, 256, pixels.shape, np.uint8)
    return slabs
