"""`python -m bench.gpu`: figures of a CUDA device; `--device cpu --quick` shows that it runs."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bench.__main__ import table, write
from bench.material import make_video
from bench.measure import Measurement
from bench.models import aim, write_detector, write_full, write_small
from inference.analyze import SLAB_BYTES, Analyzer, Limits
from inference.bundle import read_bundle
from inference.device import Device
from inference.feed import Feed
from inference.forkserver import ForkServer
from inference.frames import fit
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.slabs import Slabs

_DYNAMO: Any = torch._dynamo.utils.counters  # noqa: SLF001 # torch has no public count
PERSONS = 3
"""In a frame, on the average."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    batch: int
    videos: int
    seconds: int
    rounds: int
    full: bool
    """Models of the size that is used in earnest."""


QUICK = Size(batch=4, videos=2, seconds=2, rounds=1, full=False)
USUAL = Size(batch=32, videos=16, seconds=20, rounds=3, full=True)


def main() -> int:
    """Measure, print, and write what was found with the device's name."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("no CUDA device\n")
        return 2
    device = torch.device(asked.device)
    torch.set_num_threads(1)
    size = QUICK if asked.quick else USUAL
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        found = measure(Path(directory), device, size)
    Console(width=200).print(table(found))
    if device.type == "cuda" and not asked.quick:
        name = torch.cuda.get_device_name(device)
        write("gpu", found, device=name, torch=torch.__version__)
    return 0


def measure(directory: Path, device: torch.device, size: Size) -> list[Measurement]:
    """All figures of one device."""
    alone, bundle = directory / "detector", directory / "bundle"
    write_detector(alone, full=size.full)
    (write_full if size.full else write_small)(bundle)
    files = [
        make_video(directory / f"{n}.mp4", seconds=size.seconds, seed=n) for n in range(size.videos)
    ]
    frames = _make_frames(size.batch)
    aim(bundle, frames, device, persons=PERSONS)
    return [
        _against_the_model(alone, files, frames, device, size),
        _copies(frames, device, size),
        *_one_at_a_time(bundle, frames, device, size),
    ]


def _make_frames(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Coarse noise, uint8 [N, H, W, 3], as large as the frames of a video."""
    width, height = fit(1280, 720)
    coarse = np.random.default_rng(1).integers(0, 256, (count, height // 8, width // 8, 3))
    return coarse.astype(np.uint8).repeat(8, 1).repeat(8, 2)


def _against_the_model(
    root: Path, files: list[Path], frames: Any, device: torch.device, size: Size
) -> Measurement:
    """Files through decoders, the device and the timeline, against nothing but forward passes."""
    detector = Models.load(read_bundle(root), device, batch_size=size.batch).detector
    if detector is None:
        raise AssertionError("it has one")
    with torch.inference_mode():
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).to(device)
        batch = torch.stack([detector.prepare(picture) for picture in pictures])
        rates = _rates(lambda: detector.network(pixel_values=batch), size.batch, device, size)
    ours = asyncio.run(_analyze(root, files, device, size))
    return Measurement(
        f"{len(files)} videos, every frame, from file to timeline: the model's own best rate,"
        f" float32, batches of {size.batch}",
        max(ours),
        max(rates),
        "frames/s",
        0.9,
    )


async def _analyze(root: Path, files: list[Path], device: torch.device, size: Size) -> list[float]:
    """Frames per second, of each round; all files are in flight at once."""
    process = Device(device.type, bundle=root, batch_size=size.batch)
    rates = []
    async with ForkServer() as server:
        analyzer = Analyzer(
            process, server, sample_fps=None, limits=Limits(3600), batch_size=size.batch
        )
        try:
            await analyzer.start()
            for _ in range(size.rounds):
                started = time.perf_counter()
                done = await asyncio.gather(
                    *(analyzer.analyze(path, lambda _fraction, _frames: None) for path in files)
                )
                seconds = time.perf_counter() - started
                rates.append(sum(each.frames_analyzed for each in done) / seconds)
        finally:
            await process.close()
    return rates


def _copies(frames: Any, device: torch.device, size: Size) -> Measurement:
    """Full slabs to the device, against copies out of one pinned buffer of torch's own."""
    feed, slabs = Feed(device), Slabs.create(1, SLAB_BYTES)
    feed.pin(slabs.memory())
    height, width = frames.shape[1:3]
    full = slabs.frames(0, SLAB_BYTES // frames[0].nbytes, height, width)
    full[:] = 7
    pinned = torch.empty(full.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    gigabytes = full.nbytes / 1e9
    peak = _rates(
        lambda: torch.empty_like(pinned, device=device).copy_(pinned, non_blocking=True),
        gigabytes,
        device,
        size,
    )
    ours = _rates(lambda: feed.bring(full).arrive(), gigabytes, device, size)
    feed.unpin(slabs.memory())
    slabs.close()
    return Measurement(
        "frames to the device: the peak of pinned memory", max(ours), max(peak), "GB/s", 0.9
    )


def _one_at_a_time(root: Path, frames: Any, device: torch.device, size: Size) -> list[Measurement]:
    """Detector, attributes and embedder in batches, and frame after frame."""
    bundle = read_bundle(root)
    models = Models.load(bundle, device, batch_size=size.batch)
    single = Models.load(bundle, device, batch_size=1)
    pictures = [torch.from_numpy(frame).permute(2, 0, 1).to(device) for frame in frames]
    whole = [True] * len(pictures)

    def slowly() -> None:
        for picture in pictures:
            look_at(single, [picture], [True])

    slow = _rates(slowly, len(pictures), device, size)
    look_at(models, pictures, whole)
    _DYNAMO.clear()
    fast = _rates(lambda: look_at(models, pictures, whole), len(pictures), device, size)
    compiled = sum(_DYNAMO["stats"].values())
    return [
        Measurement(
            f"detector, attributes and embedder in batches of {size.batch}: one frame at a time",
            max(fast),
            max(slow),
            "frames/s",
            20,
        ),
        Measurement("graphs compiled after warm-up", compiled, 1, "graphs", 0, "at most"),
    ]


def _rates(
    run: Callable[[], object], amount: float, device: torch.device, size: Size
) -> list[float]:
    """How much of something is done in a second, in each round, after a first one that warms up."""
    repeats = 20 if size.full else 2
    rates = []
    for number in range(size.rounds + 1):
        started = time.perf_counter()
        for _ in range(repeats):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            rates.append(repeats * amount / (time.perf_counter() - started))
    return rates


if __name__ == "__main__":
    sys.exit(main())
