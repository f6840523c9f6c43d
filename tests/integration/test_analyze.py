"""From a file to its results, through real processes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.factories_video import find_decoders, make_video

from inference.analyze import Analysis, Analyzer, Limits
from inference.device import Device
from inference.errors import DecoderFailedError, DeviceFaultError, VideoRejectedError
from inference.forkserver import ForkServer
from inference.samples import Sample, make_samples


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device on the CPU that ends with the test."""
    device = Device("cpu", threads=1)
    yield device
    await device.close()


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """The sample videos by name."""
    return {s.name: s for s in make_samples(tmp_path_factory.mktemp("samples"))}


def make_analyzer(
    device: Device,
    server: ForkServer,
    *,
    sample_fps: float | None = None,
    limits: Limits | None = None,
) -> Analyzer:
    """An analyzer with batches so small that a decoder is never far ahead."""
    return Analyzer(
        device, server, sample_fps=sample_fps, limits=limits or Limits(3600), batch_size=8
    )


def ignore(_fraction: float, _frames: int) -> None:
    """Progress that nobody looks at."""


def strike(path: Path, kind: signal.Signals, times: int) -> Callable[[float, int], None]:
    """Send a signal to the file's decoder when its frames arrive: once for each decoder."""
    struck: set[int] = set()

    def on_progress(_fraction: float, _frames: int) -> None:
        for pid in find_decoders(path):
            if pid not in struck and len(struck) < times:
                struck.add(pid)
                os.kill(pid, kind)

    return on_progress


def make_long_video(directory: Path) -> Path:
    """More frames than are in flight at any time."""
    return make_video(directory / "long.mp4", frames=240)


@pytest.mark.xdist_group("samples")
@pytest.mark.parametrize("sample_fps", [5.0, None])
@pytest.mark.parametrize(
    "name", ["cuts", "black", "freeze", "motion", "variable", "late", "damaged"]
)
async def test_samples(
    device: Device,
    server: ForkServer,
    samples: dict[str, Sample],
    name: str,
    sample_fps: float | None,
) -> None:
    """Each sample shows what it was made to show, sampled or with every frame."""
    sample = samples[name]

    analysis = await make_analyzer(device, server, sample_fps=sample_fps).analyze(
        sample.path, ignore
    )

    for expected in sample.expected:
        assert any(
            event.event_type == expected.event_type
            and abs(event.start_ms - expected.start_ms) <= expected.tolerance_ms
            and abs(event.end_ms - expected.end_ms) <= expected.tolerance_ms
            for event in analysis.results.events
        ), expected


@pytest.mark.xdist_group("samples")
async def test_not_a_video(device: Device, server: ForkServer, samples: dict[str, Sample]) -> None:
    """A file that is no video is rejected, with the reason that the sample states."""
    sample = samples["not_a_video"]

    with pytest.raises(VideoRejectedError) as caught:
        await make_analyzer(device, server).analyze(sample.path, ignore)

    assert caught.value.reason == sample.rejected


async def test_progress(device: Device, server: ForkServer, tmp_path: Path) -> None:
    """Progress ascends to the end and tells of every frame once."""
    told: list[tuple[float, int]] = []

    analysis = await make_analyzer(device, server).analyze(
        make_long_video(tmp_path), lambda *progress: told.append(progress)
    )

    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1
    assert sum(frames for _, frames in told) == analysis.frames_analyzed == 240
    assert analysis.frames_decoded == 240
    assert analysis.decode_seconds > 0
    assert analysis.infer_seconds > 0


@pytest.mark.parametrize("kind", [signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL])
async def test_second_attempt(
    device: Device, server: ForkServer, tmp_path: Path, kind: signal.Signals
) -> None:
    """A decoder that hangs or crashes once costs time, not results."""
    path = make_long_video(tmp_path)
    analyzer = make_analyzer(device, server, limits=Limits(3600, stall_seconds=2))
    undisturbed = await analyzer.analyze(path, ignore)

    analysis = await analyzer.analyze(path, strike(path, kind, times=1))

    assert analysis.results.events == undisturbed.results.events
    assert analysis.frames_analyzed == 240
    assert analysis.retried.startswith("decoder_")
    assert not undisturbed.retried
    assert find_decoders(path) == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(signal.SIGSTOP, "decoder_timeout"), (signal.SIGSEGV, "decoder_crashed")],
)
async def test_both_attempts_fail(
    device: Device, server: ForkServer, tmp_path: Path, kind: signal.Signals, reason: str
) -> None:
    """After the second failure the video has failed, with the reason; another did not notice."""
    (tmp_path / "other").mkdir()
    path, other = make_long_video(tmp_path), make_long_video(tmp_path / "other")
    analyzer = make_analyzer(device, server, limits=Limits(3600, stall_seconds=2))

    failed, done = await asyncio.gather(
        analyzer.analyze(path, strike(path, kind, times=2)),
        analyzer.analyze(other, ignore),
        return_exceptions=True,
    )

    assert isinstance(failed, DecoderFailedError)
    assert failed.reason == reason
    assert isinstance(done, Analysis)
    assert done.frames_analyzed == 240
    assert find_decoders(path) == []


async def test_out_of_memory(device: Device, server: ForkServer, tmp_path: Path) -> None:
    """A video that does not fit into a decoder's memory fails with that reason."""
    limits = Limits(3600, memory_bytes=100 << 20)

    with pytest.raises(DecoderFailedError) as caught:
        await make_analyzer(device, server, limits=limits).analyze(
            make_long_video(tmp_path), ignore
        )

    assert caught.value.reason == "decoder_out_of_memory"


async def test_device_fault(device: Device, server: ForkServer, tmp_path: Path) -> None:
    """A fault of the device interrupts the video and ends its decoder; later it works."""
    path = make_long_video(tmp_path)

    def kill_device(_fraction: float, _frames: int) -> None:
        assert device.pid is not None
        os.kill(device.pid, signal.SIGKILL)

    with pytest.raises(DeviceFaultError):
        await make_analyzer(device, server).analyze(path, kill_device)
    left = find_decoders(path)
    analysis = await make_analyzer(device, server).analyze(path, ignore)

    assert left == []
    assert analysis.frames_analyzed == 240
    assert device.restarts == 1


def _tell_when(reached: asyncio.Event, told: list[int], batches: int) -> Callable[..., None]:
    def on_progress(_fraction: float, frames: int) -> None:
        told.append(frames)
        if len(told) == batches:
            reached.set()

    return on_progress


async def test_cancelled(device: Device, server: ForkServer, tmp_path: Path) -> None:
    """Cancelling ends the decoder and gives back every descriptor, whenever it comes."""
    path = make_long_video(tmp_path)
    analyzer = make_analyzer(device, server)
    await analyzer.analyze(path, ignore)
    before = set(Path("/proc/self/fd").iterdir())

    for batches in (1, 2, 5):
        reached = asyncio.Event()
        told: list[int] = []
        task = asyncio.create_task(analyzer.analyze(path, _tell_when(reached, told, batches)))
        await asyncio.wait_for(reached.wait(), 60)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    del task  # its traceback holds the last batch, and with it the frame memory

    assert find_decoders(path) == []
    assert set(Path("/proc/self/fd").iterdir()) <= before
    assert list(tmp_path.iterdir()) == [path]
