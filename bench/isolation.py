"""What a decoder in a cage of its own costs: against a bare decord loop over the same file."""

import time
from pathlib import Path

from bench.alone import run_alone
from bench.material import make_video, repeat_video
from bench.measure import Measurement
from inference.decode import Decoding, Limits, Request
from inference.forkserver import ForkServer
from inference.frames import LONG_SIDE, fit
from inference.slabs import Slabs

SECONDS, ROUNDS, BATCH = 20, 5, 32
TIMES = {"": 3, ", from a file that PyAV has to decode": 6}
"""How often the piece is repeated: decord gets no file beyond 32 MiB (`probe.py`)."""


async def measure(directory: Path) -> list[Measurement]:
    """Every frame of the file, from the order to the last one in a slab; both with one thread."""
    piece = make_video(directory / "isolation-piece.mp4", seconds=SECONDS)
    measured = []
    async with ForkServer() as server:
        await server.start()
        for which, times in TIMES.items():
            path = repeat_video(directory / f"isolation-{times}.mp4", piece, times)
            measured.append(await _compare(server, path, which))
    return measured


async def _compare(server: ForkServer, path: Path, which: str) -> Measurement:
    ours, bare = list[float](), list[float]()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        frames = await _decode(server, path)
        ours.append(frames / (time.perf_counter() - started))
        bare.append(frames / await run_alone("bench.isolation", "bare", path))
    return Measurement(
        f"decoder process and slabs, every frame of 720p{which}: a bare decord loop",
        max(ours),
        max(bare),
        "frames/s",
        None if which else 0.95,
        rounds=tuple(round(mine / its, 3) for mine, its in zip(ours, bare, strict=True)),
    )


async def _decode(server: ForkServer, path: Path) -> int:
    slabs = Slabs.create(3, BATCH * LONG_SIDE * LONG_SIDE * 3)
    frames = 0
    try:
        request = Request(path, None, BATCH, threads=1, tolerant=False)
        async with Decoding(server, request, Limits(3600), slabs) as decoding:
            async for batch in decoding:
                frames += len(batch.pts_ms)  # type: ignore[union-attr]  # the file has no gaps
                decoding.release(batch)  # type: ignore[arg-type]  # likewise
    finally:
        slabs.close()
    return frames


def bare(path: str) -> float:
    """Seconds that decord takes for the same frames at the same size, opening included."""
    import decord  # noqa: PLC0415 # only where this runs

    width, height = fit(1280, 720)
    started = time.perf_counter()
    reader = decord.VideoReader(path, ctx=decord.cpu(0), width=width, height=height, num_threads=1)
    for at in range(0, len(reader), BATCH):
        reader.get_batch(list(range(at, min(at + BATCH, len(reader))))).asnumpy()
    return time.perf_counter() - started
