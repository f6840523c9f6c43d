"""What it saves to decode keyframes alone where nothing changes, and costs where all does."""

from pathlib import Path

from bench.material import join_videos, make_video, repeat_video
from bench.measure import Measurement
from inference.decode import Decoding, Limits, Request
from inference.forkserver import ForkServer
from inference.frames import LONG_SIDE, FrameBatch
from inference.sampling import AUTO_FPS, Rate
from inference.slabs import Slabs

QUIET_SECONDS, BUSY_SECONDS, TIMES, ROUNDS, BATCH = 90, 10, 5, 3, 32
_CAMERA = "hqdn3d=4"
"""Cameras take most of their noise out before they encode."""


async def measure(directory: Path) -> list[Measurement]:
    """By the CPU time of the decoder, the probe and the survey included; both with one thread.

    Raises:
        RuntimeError: the quiet video is not taken for one, or the busy one is.
    """
    still, moving = (
        make_video(
            directory / f"auto-{seconds}.mp4",
            seconds=seconds,
            b_frames=0,
            look=_CAMERA,
            is_still=is_still,
        )
        for seconds, is_still in ((QUIET_SECONDS, True), (BUSY_SECONDS, False))
    )
    quiet = join_videos(directory / "auto-quiet.mp4", [still, moving])
    busy = repeat_video(directory / "auto-busy.mp4", moving, TIMES)
    async with ForkServer() as server:
        return [
            await _compare(server, quiet, "nothing happens in nine tenths", 1.5),
            await _compare(server, busy, "something always happens", 0.9),
        ]


async def _compare(server: ForkServer, path: Path, what: str, target: float) -> Measurement:
    ours, dense = list[float](), list[float]()
    frames = dict[Rate, int]()
    pairs: tuple[tuple[Rate, list[float]], ...] = (("auto", ours), (AUTO_FPS, dense))
    for _ in range(ROUNDS):
        for rate, speeds in pairs:
            frames[rate], speed = await _decode(server, path, rate)
            speeds.append(speed)
    if (frames["auto"] < frames[AUTO_FPS]) != (target > 1):
        raise RuntimeError(f"where {what}: {frames} frames")
    return Measurement(
        f"`auto` in 720p where {what}: {AUTO_FPS:g} frames a second",
        max(ours),
        max(dense),
        "source frames/CPU-s",
        target,
        rounds=tuple(round(mine / its, 3) for mine, its in zip(ours, dense, strict=True)),
    )


async def _decode(server: ForkServer, path: Path, rate: Rate) -> tuple[int, float]:
    """Count the frames handed over, and tell how many of the file each CPU second is done with."""
    slabs, frames = Slabs.create(3, BATCH * LONG_SIDE * LONG_SIDE * 3), 0
    try:
        request = Request(path, rate, BATCH, threads=1, tolerant=False)
        async with Decoding(server, request, Limits(3600), slabs) as decoding:
            async for batch in decoding:
                if isinstance(batch, FrameBatch):
                    frames += len(batch.pts_ms)
                    decoding.release(batch)
    finally:
        slabs.close()
    if decoding.finished is None:
        raise RuntimeError("a decoding that ends has finished")
    return frames, decoding.decoded / decoding.finished.cpu_seconds
