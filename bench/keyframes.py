"""What it saves to decode keyframes only: against every frame of the same file."""

import time
from pathlib import Path

from bench.material import make_video, repeat_video
from bench.measure import Measurement
from inference.decode import Decoding, Limits, Request
from inference.forkserver import ForkServer
from inference.frames import LONG_SIDE, FrameBatch
from inference.sampling import Rate
from inference.slabs import Slabs

SECONDS, TIMES, GOP, ROUNDS, BATCH = 20, 3, 250, 3, 32


async def measure(directory: Path) -> list[Measurement]:
    """From the order to the last frame in a slab, the probe included; both with one thread."""
    piece = make_video(directory / "keyframes-piece.mp4", seconds=SECONDS, gop=GOP)
    path = repeat_video(directory / "keyframes.mp4", piece, TIMES)
    ours, dense = list[float](), list[float]()
    async with ForkServer() as server:
        await server.start()
        for _ in range(ROUNDS):
            ours.append(await _rate(server, path, "keyframes"))
            dense.append(await _rate(server, path, None))
    return [
        Measurement(
            f"keyframes of 720p, {GOP} frames to a group: every frame",
            max(ours),
            max(dense),
            "source frames/s",
            8,
            rounds=tuple(round(mine / its, 3) for mine, its in zip(ours, dense, strict=True)),
        )
    ]


async def _rate(server: ForkServer, path: Path, rate: Rate) -> float:
    """Frames of the file that are done with in a second, decoded or not."""
    started = time.perf_counter()
    slabs = Slabs.create(3, BATCH * LONG_SIDE * LONG_SIDE * 3)
    try:
        request = Request(path, rate, BATCH, threads=1, tolerant=False)
        async with Decoding(server, request, Limits(3600), slabs) as decoding:
            async for batch in decoding:
                if isinstance(batch, FrameBatch):
                    decoding.release(batch)
    finally:
        slabs.close()
    return decoding.decoded / (time.perf_counter() - started)
