"""The device's process: the same answers as in-process, and faults that stay its own."""

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from tests.factories_video import make_pictures, make_slabs

from inference import device_run
from inference.device import SILENCE_SECONDS, Device, DeviceVideo, Inferred
from inference.device_run import LOAD_SECONDS
from inference.engine import Engine
from inference.errors import DeviceFaultError
from inference.features import FrameFeatures
from inference.frames import FrameBatch
from inference.slabs import Slabs
from poller.watch import STUCK_SECONDS


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device on the CPU that ends with the test."""
    device = Device("cpu", threads=1)
    yield device
    await device.close()


def make_batches(slabs: Slabs, width: int = 160, batches: int = 3) -> list[FrameBatch]:
    """One batch of 8 frames in each slab; other widths are other scenes."""
    pictures = np.stack(list(make_pictures(8 * batches, width, 90)))
    made = []
    for slab in range(batches):
        pixels = slabs.frames(slab, 8, 90, width)
        pixels[:] = pictures[8 * slab : 8 * slab + 8]
        made.append(FrameBatch(pixels, np.linspace(320.0 * slab, 320.0 * slab + 280, 8), slab))
    return made


def measure_here(batches: list[FrameBatch]) -> list[FrameFeatures]:
    """The features of a video's batches, without any process."""
    engine = Engine("cpu")
    carry = engine.open()
    return [engine.features(carry, batch.pixels, batch.pts_ms) for batch in batches]


def assert_equal(ours: list[FrameFeatures], expected: list[FrameFeatures]) -> None:
    """Bit for bit the same."""
    for one, other in zip(ours, expected, strict=True):
        arrays: dict[str, npt.NDArray[np.generic]] = other.to_arrays()
        for name, array in one.to_arrays().items():
            assert np.array_equal(array, arrays[name]), name


async def measure(video: DeviceVideo, batches: list[FrameBatch]) -> list[FrameFeatures]:
    """The features of a video's batches, in order."""
    return [(await video.infer(batch)).features for batch in batches]


async def test_same_as_in_process(device: Device) -> None:
    """What comes out of the process is what the engine computes, bit for bit."""
    slabs = make_slabs()
    batches = make_batches(slabs)

    async with device.open(slabs) as video:
        features = await measure(video, batches)

    assert_equal(features, measure_here(batches))
    assert device.name == "cpu"
    assert device.busy_seconds > 0
    assert device.memory_bytes > 50 << 20
    slabs.close()


async def test_videos_do_not_mix(device: Device) -> None:
    """Two videos whose batches alternate get what each would get alone."""
    slabs, other_slabs = make_slabs(), make_slabs()
    batches, others = make_batches(slabs), make_batches(other_slabs, width=200)

    async with device.open(slabs) as video, device.open(other_slabs) as other:
        ours, theirs = await asyncio.gather(measure(video, batches), measure(other, others))

    assert_equal(ours, measure_here(batches))
    assert_equal(theirs, measure_here(others))
    slabs.close()
    other_slabs.close()


async def test_death_reaches_all_and_is_mended(device: Device) -> None:
    """When the process dies, every video in flight is told; it had begun with none of them."""
    slabs = make_slabs()
    batches = make_batches(slabs)
    async with device.open(slabs) as video, device.open(slabs) as other:
        assert device.pid is not None
        os.kill(device.pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(measure(each, batches)) for each in (video, other)]
        await asyncio.wait(waiting, timeout=0.1)
        os.kill(device.pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(DeviceFaultError) as after:
            await video.infer(batches[0])

        async with device.open(slabs) as fresh:
            features = await measure(fresh, batches)

    first, second = outcomes
    assert isinstance(first, DeviceFaultError)
    assert isinstance(second, DeviceFaultError)
    assert (first.is_own, second.is_own, after.value.is_own) == (False, False, False)
    assert_equal(features, measure_here(batches))
    assert device.restarts == 1
    slabs.close()


async def test_error_on_the_device(device: Device) -> None:
    """An error while measuring is a fault that says what happened."""
    slabs, wider = make_slabs(), make_slabs()
    batches = make_batches(slabs)
    (changed, *_) = make_batches(wider, width=200)
    async with device.open(slabs) as video:
        await video.infer(batches[0])

        with pytest.raises(DeviceFaultError, match="size changed"):
            await video.infer(changed)

    slabs.close()
    wider.close()


async def outcomes_of_a_fault(device: Device, order: str) -> dict[str, bool]:
    """Whether the device blames each video, asked in this order: `b` breaks it, `c` cancels too."""
    slabs, wider = make_slabs(), make_slabs()
    batches = make_batches(slabs)
    (changed, *_) = make_batches(wider, width=200)
    async with AsyncExitStack() as stack:
        videos = {name: await stack.enter_async_context(device.open(slabs)) for name in order}
        for video in videos.values():
            await video.infer(batches[0])
        assert device.pid is not None
        process = psutil.Process(device.pid)
        process.suspend()
        asked: dict[str, asyncio.Task[Inferred]] = {}
        for name, video in videos.items():
            batch = changed if name in "bc" else batches[1]
            asked[name] = asyncio.create_task(video.infer(batch))
            await asyncio.sleep(0)
            if name == "c":
                asked[name].cancel()
        process.resume()
        outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
    slabs.close()
    wider.close()
    faults = zip(asked, outcomes, strict=True)
    return {name: fault.is_own for name, fault in faults if isinstance(fault, DeviceFaultError)}


async def test_a_fault_is_of_the_video_that_was_worked_on(device: Device) -> None:
    """Whoever asked first, and not of one that only waits while a cancelled one breaks it."""
    found = [await outcomes_of_a_fault(device, order) for order in ("bxy", "xby", "cxy")]

    assert found[0] == {"b": True, "x": False, "y": False}
    assert found[1] == {"b": True, "y": False}
    assert found[2] == {"x": False, "y": False}


async def test_a_carry_that_breaks_the_device(device: Device) -> None:
    """The device was at work on the video when it was opened, too."""
    slabs = make_slabs()

    with pytest.raises(DeviceFaultError, match="background_previous") as failed:
        async with device.open(slabs, {"background_mean": np.zeros((1, 1), np.float32)}):
            raise AssertionError("it is open")

    assert failed.value.is_own
    slabs.close()


async def test_hang() -> None:
    """A process that is asked and says nothing is ended; it had not begun with the video."""
    device = Device("cpu", threads=1, infer_seconds=0.5)
    slabs = make_slabs()
    batches = make_batches(slabs)
    async with device.open(slabs) as video:
        pid = device.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)

        process = os.pidfd_open(pid)
        with pytest.raises(DeviceFaultError, match="said nothing for") as hung:
            await video.infer(batches[0])
        ended, _, _ = select.select([process], [], [], 30)

    assert not hung.value.is_own
    assert ended == [process]
    os.close(process)
    await device.close()
    slabs.close()


async def test_a_device_that_shows_life_is_waited_for(device: Device) -> None:
    """However long ago it was asked: others may have been before, and their frames many."""
    slabs = make_slabs()
    async with device.open(slabs) as video:
        process = psutil.Process(device.pid)
        process.suspend()
        asked = [asyncio.create_task(video.carry())]
        await asyncio.sleep(0)
        video.run.heard -= 1000.0
        video.run.hear({"kind": "work", "ids": []})
        asked.append(asyncio.create_task(video.carry()))
        await asyncio.sleep(0)
        process.resume()

        assert await asyncio.gather(*asked) == [{}, {}]
    slabs.close()


async def test_absent_device() -> None:
    """A device that does not exist is a fault with its reason, not a hang."""
    device = Device("no-such-device")

    with pytest.raises(DeviceFaultError, match="no-such-device"):
        await device.start()

    await device.close()


async def test_closed_while_it_starts() -> None:
    """Nobody waits for a start that may take minutes; whoever asked for the device is told."""
    device = Device("cpu")
    waiting = [asyncio.create_task(device.start()) for _ in range(2)]
    frozen = await _frozen_child()

    await device.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(each) for each in outcomes] == ["the device is closed"] * 2
    assert not frozen.is_running()
    with pytest.raises(DeviceFaultError, match="is closed"):
        await device.start()


async def test_cancelled_while_it_starts(device: Device) -> None:
    """Whoever no longer wants the device leaves no process behind; the next one gets another."""
    waiting = asyncio.create_task(device.start())
    frozen = await _frozen_child()

    waiting.cancel()
    await asyncio.wait([waiting])
    await device.start()

    assert waiting.cancelled()
    assert not frozen.is_running()
    assert device.pid is not None


async def _frozen_child() -> psutil.Process:
    """This process's device, as soon as there is one, frozen before it can be ready."""
    while True:
        for child in psutil.Process().children():
            if "inference.device_main" in child.cmdline():
                child.suspend()
                return child
        await asyncio.sleep(0)


def test_a_video_is_not_taken_for_stuck_while_its_device_is_replaced() -> None:
    """A fault that begins with silence, and a start that takes as long as it may."""
    assert SILENCE_SECONDS + LOAD_SECONDS < STUCK_SECONDS


async def test_cancelled_video(device: Device) -> None:
    """A video that is cancelled while it waits disturbs nobody."""
    slabs, other_slabs = make_slabs(), make_slabs()
    batches, others = make_batches(slabs), make_batches(other_slabs, width=200)
    async with device.open(other_slabs) as other:
        async with device.open(slabs) as video:
            task = asyncio.create_task(video.infer(batches[0]))
            await asyncio.wait([task], timeout=0)
            task.cancel()
            await asyncio.wait([task])
        slabs.close()

        features = await measure(other, others)

    assert_equal(features, measure_here(others))
    assert device.restarts == 0
    other_slabs.close()


async def test_knows_no_secret(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device needs no credential, and is told where its GPU is."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("POLLER_DATABASE_URL", "hush-hush")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    await device.start()

    environment = Path(f"/proc/{device.pid}/environ").read_bytes()
    assert b"hush" not in environment
    assert b"CUDA_VISIBLE_DEVICES" in environment


def _descriptors() -> list[str]:
    """What this process has open, memory that a traceback still looks at left out."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets = (str(link.readlink()) for link in links if link.is_symlink())
    return sorted(target for target in targets if "memfd:frames" not in target)


async def test_leaves_nothing_behind() -> None:
    """A closed device has no process and no descriptor; a fault before that changes nothing."""
    warm = Device("cpu", threads=1)
    await warm.start()
    await warm.close()
    before = _descriptors()
    device = Device("cpu", threads=1)
    slabs = make_slabs()
    pids = []
    for _ in range(2):
        async with device.open(slabs) as video:
            assert device.pid is not None
            pids.append(device.pid)
            os.kill(device.pid, signal.SIGKILL)
            with pytest.raises(DeviceFaultError):
                await measure(video, make_batches(slabs))

    await device.close()

    slabs.close()
    assert not any(map(psutil.pid_exists, pids))
    assert _descriptors() == before


async def test_a_start_that_is_killed_says_so() -> None:
    """The kernel's choice where memory is short leaves no word of its own."""
    device, own = Device("cpu"), psutil.Process()
    before = set(own.children())
    start = asyncio.create_task(device.start())
    while not (started := set(own.children()) - before):  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)

    started.pop().kill()

    with pytest.raises(DeviceFaultError, match=r"it does not start: it was killed \(SIGKILL\)"):
        await start


async def test_a_start_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and told for how long it was waited for."""
    monkeypatch.setattr(device_run, "_START_SECONDS", 0.01)

    with pytest.raises(DeviceFaultError, match=r"it does not start: it said nothing for 0\.01 s"):
        await Device("cpu").start()


async def test_a_start_that_fails_says_why_in_a_line() -> None:
    """An operator reads what is wrong with the device, not where in the code it was noticed."""
    device = Device("nonsense")

    with pytest.raises(DeviceFaultError) as failed:
        await device.start()

    assert str(failed.value).startswith("it does not start: Expected one of cpu, ")
    assert "Traceback" not in str(failed.value)
    assert "\n" not in str(failed.value)
