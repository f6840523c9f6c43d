"""The same analysis on CUDA: skipped without a device, unless `FAIL_WITHOUT_CUDA=1`."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.clips import make_clip
from tests.unit.inference.test_engine import make_clip as make_frames
from tests.unit.inference.test_engine import measure

from inference.analyze import Analysis, Analyzer, Limits
from inference.device import Device
from inference.engine import Engine
from inference.feed import Feed
from inference.forkserver import ForkServer
from inference.slabs import Slabs

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("FAIL_WITHOUT_CUDA") != "1",
    reason="needs a CUDA device",
)


def test_cuda_measures_the_same() -> None:
    """The whole-number features are the same bits, the others agree closely."""
    frames = make_frames()
    cpu, cuda = Engine("cpu"), Engine("cuda")
    expected = measure(cpu, cpu.open(), frames, [])

    features = measure(cuda, cuda.open(), frames, [])

    for name in ("content_score", "black_ratio", "freeze_difference", "frozen", "described"):
        np.testing.assert_array_equal(getattr(features, name), getattr(expected, name))
    np.testing.assert_allclose(features.motion_area, expected.motion_area, atol=0.01)
    np.testing.assert_allclose(features.descriptor, expected.descriptor, atol=1e-4)


@pytest.mark.parametrize("is_pinned", [True, False])
def test_frames_arrive_as_they_lie_in_the_slabs(*, is_pinned: bool) -> None:
    """Several on their way at once, pinned or not; and no error is left behind for the next."""
    device, slabs = torch.device("cuda"), Slabs.create(5, 1 << 20)
    feed = Feed(device)
    if is_pinned:
        feed.pin(slabs.memory())
    shown = [slabs.frames(at, 7, 90, 160) for at in range(5)]
    for seed, pixels in enumerate(shown):
        pixels[:] = np.random.default_rng(seed).integers(0, 256, pixels.shape, np.uint8)

    brought = [feed.bring(pixels) for pixels in shown]

    assert torch.from_numpy(shown[0]).is_pinned() == is_pinned
    for on_device, pixels in zip(brought, shown, strict=True):
        np.testing.assert_array_equal(on_device.arrive().cpu().numpy(), pixels)
    feed.unpin(slabs.memory())
    slabs.close()
    assert torch.ones(3, device=device).sum().item() == 3


async def test_a_video_gives_the_same_timeline(tmp_path: Path) -> None:
    """Through the decoder and the device process, on CUDA as on the CPU."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=10)

    async def analyze(name: str) -> Analysis:
        device = Device(name, threads=1)
        limits = Limits(max_seconds=60)
        async with ForkServer() as server:
            analyzer = Analyzer(device, server, sample_fps=None, limits=limits, batch_size=32)
            try:
                return await analyzer.analyze(clip, lambda *_: None)
            finally:
                await device.close()

    cpu, cuda = await asyncio.gather(analyze("cpu"), analyze("cuda"))

    assert [(e.event_type, e.start_ms, e.end_ms) for e in cuda.results.events] == [
        (e.event_type, e.start_ms, e.end_ms) for e in cpu.results.events
    ]
    assert len(cuda.results.embeddings) == len(cpu.results.embeddings)
