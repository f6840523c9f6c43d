"""The models of a bundle in the device's process: frames of all videos, in batches."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tests.factories_bundle import (
    AGE,
    DETECTOR,
    EMBEDDER,
    GENDER,
    write_bundle,
    write_classifier,
    write_detector,
    write_embedder,
)
from tests.factories_video import make_slabs
from tests.known_models import write_colour_classifier, write_rectangle_detector

from inference.bundle import Bundle
from inference.device import Device, DeviceVideo, Inferred
from inference.device_run import start_run
from inference.errors import DeviceFaultError, ModelRefusedError
from inference.features import FrameFeatures
from inference.frames import FrameBatch
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.sights import Sights
from inference.slabs import Slabs
from inference.wire import DeviceOrder

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")

BATCH = 4
FOREVER_MS = 3_600_000.0
COLOURS = np.array([(250, 10, 0), (0, 10, 250)], np.uint8)
Pictures = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Finds red and blue rectangles; red is a man of 40, blue a woman of 70."""
    root = tmp_path_factory.mktemp("bundle")
    write_rectangle_detector(root / "detector")
    write_colour_classifier(root / "gender", ("female", "male"), red=(0, 6), blue=(6, 0))
    write_colour_classifier(root / "age", ("years",), red=(40,), blue=(70,))
    write_embedder(root / "embedder", "clip")
    return write_bundle(root, DETECTOR, GENDER, AGE, EMBEDDER)


@asynccontextmanager
async def open_device(
    bundle: Bundle, batch_size: int = BATCH, wait_ms: float = 20.0
) -> AsyncIterator[Device]:
    """A device on the CPU, with models."""
    device = Device("cpu", bundle=bundle.root, batch_size=batch_size, batch_wait_ms=wait_ms)
    try:
        await device.start()
        yield device
    finally:
        await device.close()


def make_pictures(seed: int, count: int, height: int = 90, width: int = 160) -> Pictures:
    """Noise with rectangles on a grid of eighths, some red, some blue; uint8 [N, H, W, 3]."""
    chance = np.random.default_rng(seed)
    pictures = chance.integers(90, 130, (count, height, width, 3), np.uint8)
    for picture in pictures:
        for at in chance.permutation(2)[: chance.integers(0, 3)]:
            left, top = chance.integers(0, 5, 2)
            rows = slice(top * height // 8, (top + 3) * height // 8)
            picture[rows, left * width // 8 : (left + 2) * width // 8] = COLOURS[at]
    return pictures


def make_batches(slabs: Slabs, pictures: Pictures, sizes: Sequence[int]) -> list[FrameBatch]:
    """One batch of so many frames in each slab, 0.3 s apart."""
    made, at = [], 0
    for slab, size in enumerate(sizes):
        pixels = slabs.frames(slab, size, *pictures.shape[1:3])
        pixels[:] = pictures[at : at + size]
        made.append(FrameBatch(pixels, np.arange(300.0 * at, 300.0 * (at + size) - 1, 300.0), slab))
        at += size
    return made


async def watch(video: DeviceVideo, batches: list[FrameBatch]) -> list[Inferred]:
    """What the device makes of a video's batches, in order."""
    return [await video.infer(batch) for batch in batches]


def join(parts: Sequence[Inferred]) -> tuple[FrameFeatures, Sights]:
    """One video's, without the seams."""
    sights = [part.sights for part in parts if part.sights is not None]
    return FrameFeatures.join([part.features for part in parts]), Sights.join(sights)


def assert_equal(one: Sequence[Inferred], other: Sequence[Inferred]) -> None:
    """Bit for bit the same, wherever the batches ended."""
    (features, sights), (expected, sights_expected) = join(one), join(other)
    arrays = {**expected.to_arrays(), **sights_expected.to_arrays()}
    for name, array in {**features.to_arrays(), **sights.to_arrays()}.items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def split(count: int, chance: random.Random) -> list[int]:
    """Sizes from 1 to 8 that add up."""
    sizes: list[int] = []
    while (left := count - sum(sizes)) > 0:
        sizes.append(min(left, chance.randint(1, 8)))
    return sizes


async def watch_together(
    device: Device, clips: Sequence[Pictures], chance: random.Random
) -> tuple[dict[int, list[Inferred]], int]:
    """What the device makes of videos that ask at once, cut by chance; and how often they asked.

    The second number is how many batches there would be if none were shared.
    """
    order = chance.sample(range(len(clips)), len(clips))
    async with AsyncExitStack() as stack:
        videos, alone = {}, 0
        for at in order:
            slabs = make_slabs(count=len(clips[at]))
            stack.callback(slabs.close)
            sizes = split(len(clips[at]), chance)
            alone += sum(-(-size // BATCH) for size in sizes)
            video = await stack.enter_async_context(device.open(slabs))
            videos[at] = watch(video, make_batches(slabs, clips[at], sizes))
        process = psutil.Process(device.pid)
        process.suspend()  # until all have asked
        running = [asyncio.create_task(video) for video in videos.values()]
        await asyncio.sleep(0)
        process.resume()
        return dict(zip(order, await asyncio.gather(*running), strict=True)), alone


async def test_batch_mates_change_no_bit(bundle: Bundle) -> None:
    """Five videos at once, cut and mixed by chance, get what each gets alone, bit for bit."""
    shapes = [(90, 160), (90, 160), (160, 90), (64, 64), (144, 256)]
    clips = [make_pictures(at, 12, *shape) for at, shape in enumerate(shapes)]
    async with open_device(bundle) as device:
        alone = []
        for clip in clips:
            slabs = make_slabs(count=1, batch_size=len(clip))
            async with device.open(slabs) as video:
                alone.append(await watch(video, make_batches(slabs, clip, [len(clip)])))
            slabs.close()

        for seed in range(4):
            before = device.batches
            together, unshared = await watch_together(device, clips, random.Random(seed))

            assert device.batches - before < unshared
            for at, expected in enumerate(alone):
                assert_equal(together[at], expected)


async def test_frames_that_nobody_asks_about(bundle: Bundle) -> None:
    """Persons are looked for where that is asked, wholes embedded as ever; no other frame is seen.

    A batch of which nobody asks anything is answered at once.
    """
    pictures = make_pictures(7, 4).repeat(2, 0)[:7]
    looked_at = np.array([True, False, False, False, True, False, False])
    slabs = make_slabs()
    async with open_device(bundle) as device, device.open(slabs) as video:
        first, second = make_batches(slabs, pictures, [5, 2])
        seen = [await video.infer(first, looked_at[:5]), await video.infer(second, looked_at[5:])]
        features, sights = join(seen)
        unseen = [
            await video.infer(each, np.zeros(len(each.pts_ms), np.bool_)) for each in (second,)
        ]
        frames = device.batch_frames
    slabs.close()

    described = features.described
    torch.set_num_threads(1)
    models = Models.load(bundle, torch.device("cpu"), batch_size=BATCH)
    tensors = list(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    every = models.sights(look_at(models, tensors, described.tolist()))
    assert unseen[0].sights is not None
    assert sights.person_count.tolist() == (every.person_count * looked_at).tolist()
    assert sights.person_count.sum() > 0
    np.testing.assert_array_equal(sights.frame_vectors, every.frame_vectors)
    assert frames == np.count_nonzero(looked_at)
    assert 0 < np.count_nonzero(described & ~looked_at) < 7


async def test_what_the_models_see(bundle: Bundle) -> None:
    """The same as in-process; the frames that have a descriptor have a vector as a whole.

    The last frames wait for those of another video for a while, and not for ever.
    """
    pictures = make_pictures(7, 4).repeat(2, 0)[:7]
    slabs, idle_slabs = make_slabs(), make_slabs()
    async with (
        open_device(bundle) as device,
        device.open(idle_slabs),
        device.open(slabs) as video,
    ):
        (found,) = await watch(video, make_batches(slabs, pictures, [7]))
        assert (device.model, device.batch_size) == ("people-1", BATCH)
        assert (device.batches, device.batch_frames, device.batch_room) == (2, 7, 8)
    slabs.close()
    idle_slabs.close()

    torch.set_num_threads(1)
    models = Models.load(bundle, torch.device("cpu"), batch_size=BATCH)
    tensors = list(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    described = found.features.described.tolist()
    expected = models.sights(look_at(models, tensors, described)).to_arrays()
    assert found.sights is not None
    for name, array in found.sights.to_arrays().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert found.sights.framed.tolist() == described
    assert 1 < sum(described) < 7
    assert found.sights.frame_vectors.shape == (sum(described), 24)
    words = [each.text for _, read, _ in found.sights.frames() for each in read["gender"]]
    assert set(words) == {"female", "male"}
    assert found.seconds > 0


async def test_frames_wait_for_those_of_others(bundle: Bundle) -> None:
    """A batch that is not full waits for a video that may bring more, and for no other.

    Of a video that is given up while its frames wait, none gets into a batch.
    """
    slabs, other_slabs = make_slabs(), make_slabs()
    pictures = make_pictures(1, 3)
    (batch,) = make_batches(slabs, pictures, [3])
    (another,) = make_batches(other_slabs, pictures, [3])
    async with open_device(bundle, 16, FOREVER_MS) as device, device.open(slabs) as video:
        await video.infer(batch)  # nobody else could bring any
        async with device.open(other_slabs) as other:
            await asyncio.gather(video.infer(batch), other.infer(another))
            assert (device.batches, device.batch_frames) == (2, 9)

            waiting = asyncio.create_task(other.infer(another))
            await asyncio.sleep(0)
            await video.carry()  # nothing that waits holds up another request
            waiting.cancel()
            await asyncio.wait([waiting])
        await video.infer(batch)

        assert (device.batches, device.batch_frames) == (3, 12)
    slabs.close()
    other_slabs.close()


@asynccontextmanager
async def frames_in_wait(
    bundle: Bundle,
) -> AsyncIterator[tuple[Device, AsyncExitStack, "asyncio.Task[Inferred]"]]:
    """Frames of one video that wait for those of another, which ends when the stack is closed."""
    slabs, other_slabs = make_slabs(), make_slabs()
    (batch,) = make_batches(slabs, make_pictures(1, 3), [3])
    async with (
        open_device(bundle, 16, FOREVER_MS) as device,
        device.open(slabs) as video,
        AsyncExitStack() as other,
    ):
        await other.enter_async_context(device.open(other_slabs))
        waiting = asyncio.create_task(video.infer(batch))
        await asyncio.sleep(0)
        await video.carry()  # by then the device has said that it is at work
        assert not waiting.done()
        yield device, other, waiting
    slabs.close()
    other_slabs.close()


async def test_frames_that_wait_for_a_video_that_ends(bundle: Bundle) -> None:
    """They wait no longer."""
    async with frames_in_wait(bundle) as (_, other, waiting):
        await other.aclose()

        await waiting


async def test_a_fault_while_frames_wait_is_not_theirs(bundle: Bundle) -> None:
    """They were measured, and nothing was begun with them."""
    async with frames_in_wait(bundle) as (device, _, waiting):
        run = device._run
        assert run is not None
        async with asyncio.timeout(30):
            while run.at_work:  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.01)
        run.process.kill()

        with pytest.raises(DeviceFaultError) as fault:
            await waiting

    assert not fault.value.is_own


async def test_a_bundle_that_was_altered(tmp_path: Path) -> None:
    """The process does not start, and one line says why."""
    write_embedder(tmp_path / "embedder", "clip")
    write_bundle(tmp_path, EMBEDDER)
    with (tmp_path / "embedder" / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    device = Device("cpu", bundle=tmp_path)

    with pytest.raises(ModelRefusedError) as refused:
        await device.start()

    assert str(refused.value).startswith("embedder/model.safetensors: has sha256 ")
    assert "\n" not in str(refused.value)
    await device.close()


async def test_no_number_is_no_value(tmp_path: Path) -> None:
    """Persons without age and vector, counted; a frame without a vector, counted too."""
    write_rectangle_detector(tmp_path / "detector")
    write_classifier(tmp_path / "age", "years")
    write_embedder(tmp_path / "embedder", "clip")
    for name in ("age", "embedder"):
        _fill_with_nan(tmp_path / name / "model.safetensors")
    bundle = write_bundle(tmp_path, DETECTOR, AGE, EMBEDDER)
    slabs = make_slabs()

    async with open_device(bundle) as device, device.open(slabs) as video:
        (found,) = await watch(video, make_batches(slabs, make_pictures(7, 8), [8]))
    slabs.close()

    sights = found.sights
    assert sights is not None
    persons = len(sights.scores)
    described = found.features.described
    assert persons > 4
    assert np.isnan(sights.attributes["age"].number).all()
    assert not sights.vectors.any()
    assert not sights.framed.any()
    np.testing.assert_array_equal(sights.invalid, 2 * sights.person_count + described)


def _fill_with_nan(path: Path) -> None:
    weights = {name: torch.full_like(each, float("nan")) for name, each in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})


async def test_less_memory_makes_smaller_batches(tmp_path: Path) -> None:
    """A batch that does not fit is halved until it does, and the results are there."""
    write_large_embedder(tmp_path / "embedder")
    bundle = write_bundle(tmp_path, EMBEDDER)
    pictures = make_pictures(3, 8)
    slabs = make_slabs()
    async with open_device(bundle, batch_size=8) as device:
        async with device.open(slabs) as video:
            batches = make_batches(slabs, pictures, [8])
            plenty = join(await watch(video, batches))[1]
        process = psutil.Process(device.pid)
        room = process.memory_info().vms + (96 << 20)  # a batch of 8 takes three times that
        process.rlimit(psutil.RLIMIT_AS, (room, room))

        async with device.open(slabs) as video:
            scarce = join(await watch(video, batches))[1]

        assert device.batch_size in (1, 2, 4)
        assert device.restarts == 0
    slabs.close()
    np.testing.assert_array_equal(scarce.framed, plenty.framed)
    np.testing.assert_allclose(scarce.frame_vectors, plenty.frame_vectors, atol=1e-4)


def write_large_embedder(directory: Path) -> None:
    """Its attention takes 8 MiB for each of its heads and pictures."""
    torch.manual_seed(0)
    config = hf.CLIPVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16,
        image_size=128, patch_size=4, projection_dim=8,
    )  # fmt: skip
    hf.CLIPVisionModelWithProjection(config).eval().save_pretrained(directory)
    size = {"height": 128, "width": 128}
    hf.CLIPImageProcessorPil(size={"shortest_edge": 128}, crop_size=size).save_pretrained(directory)


async def test_a_crowd_is_no_silence(tmp_path: Path) -> None:
    """While a batch takes long, the device says again and again that it is at work on it."""
    write_detector(tmp_path / "detector", "yolos", "person", tokens=250)
    write_classifier(tmp_path / "gender", "f", "m")
    write_embedder(tmp_path / "embedder", "clip")
    tables = DETECTOR.replace("0.5", "0.0"), "[tracker]\nlow = 0.0\n", GENDER, EMBEDDER
    bundle = write_bundle(tmp_path, *tables)
    slabs = make_slabs()
    make_batches(slabs, make_pictures(1, 1), [1])
    run, _ = await start_run(DeviceOrder("cpu", os.getpid(), 1, str(bundle.root), 1))
    socket.send_fds(run.descriptors, [b"slabs"], [slabs.fd])
    shape = {"slab_count": slabs.count, "slab_bytes": slabs.slab_bytes}
    frame = {"slab": 0, "height": 90, "width": 160}

    run.send({"kind": "open", "id": 0, "video": 7, **shape}, {})
    arrays = {"pts_ms": np.zeros(1), "looked_at": np.ones(1, np.bool_)}
    run.send({"kind": "infer", "id": 1, "video": 7, **frame}, arrays)
    said = [(await run.receive())[0]]
    while said[-1]["kind"] != "features":
        said.append((await run.receive())[0])
    await run.close()
    slabs.close()

    (began,) = (at for at, each in enumerate(said) if each.get("frames"))
    signs = said[began + 1 : -1]
    assert len(signs) > 0
    assert all((each["kind"], each["ids"], each["frames"]) == ("work", [1], 0) for each in signs)


async def outcomes_of_an_end(
    device: Device, batches: list[FrameBatch], slabs: Slabs, end: Callable[[psutil.Process], None]
) -> list[bool]:
    """Whether each of two videos is blamed, when a batch that takes long is the process's last."""
    async with device.open(slabs) as one, device.open(slabs) as other:
        process = psutil.Process(device.pid)
        before = device.batches
        process.suspend()  # until both have asked
        asked = [asyncio.create_task(video.infer(batches[0])) for video in (one, other)]
        await asyncio.sleep(0)
        process.resume()
        while device.batches == before:  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.01)
        with suppress(psutil.NoSuchProcess):  # it took so long that it was ended for that
            end(process)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    faults = [outcome for outcome in outcomes if isinstance(outcome, DeviceFaultError)]
    assert len(faults) == len(asked)
    return [fault.is_own for fault in faults]


async def test_a_fault_in_a_shared_batch_is_nobodys(tmp_path: Path) -> None:
    """The next process takes one video at a time, and so tells whose the next fault is.

    The first process dies, the second one hangs.
    """
    write_detector(tmp_path / "detector", "yolos", "person", tokens=250)
    write_classifier(tmp_path / "gender", "f", "m")
    wide = DETECTOR.replace("0.5", "0.0")
    bundle = write_bundle(tmp_path, wide, "[tracker]\nlow = 0.0\n", GENDER)
    slabs = make_slabs(batch_size=16)
    batches = make_batches(slabs, make_pictures(1, 16), [16])  # 200 persons each
    device = Device("cpu", bundle=bundle.root, batch_size=32, infer_seconds=5)

    shared = await outcomes_of_an_end(device, batches, slabs, psutil.Process.kill)
    alone = await outcomes_of_an_end(device, batches, slabs, psutil.Process.suspend)
    await device.close()
    slabs.close()

    assert shared == [False, False]
    assert sorted(alone) == [False, True]
