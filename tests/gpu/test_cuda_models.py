"""The models of a bundle on CUDA: skipped without a device, unless `FAIL_WITHOUT_CUDA=1`."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.factories_bundle import AGE, DETECTOR, EMBEDDER, GENDER, write_bundle, write_embedder
from tests.factories_video import make_slabs
from tests.integration.test_device_models import (
    join,
    make_batches,
    make_pictures,
    watch,
    watch_together,
)
from tests.known_models import write_colour_classifier, write_rectangle_detector

from inference.bundle import Bundle
from inference.device import Device
from inference.errors import DeviceFaultError
from inference.features import FrameFeatures
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.sights import Sight, Sights

CUDA = "cuda"

pytestmark = [
    pytest.mark.xdist_group("bundles"),
    pytest.mark.skipif(
        not torch.cuda.is_available() and os.environ.get("FAIL_WITHOUT_CUDA") != "1",
        reason="needs a CUDA device",
    ),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Finds red and blue rectangles; red is a man of 40, blue a woman of 70."""
    root = tmp_path_factory.mktemp("bundle")
    write_rectangle_detector(root / "detector")
    write_colour_classifier(root / "gender", ("female", "male"), red=(0, 6), blue=(6, 0))
    write_colour_classifier(root / "age", ("years",), red=(40,), blue=(70,))
    write_embedder(root / "embedder", "clip")
    return write_bundle(root, DETECTOR, GENDER, AGE, EMBEDDER)


@pytest.fixture
def spared() -> Iterator[None]:
    """Give the device all of its memory back, whatever a test took."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def look(bundle: Bundle, device: str) -> list[Sight]:
    """What the models see in the same pictures, each embedded as a whole too."""
    return look_with(Models.load(bundle, torch.device(device), batch_size=4))


def look_with(models: Models, count: int = 10) -> list[Sight]:
    """The same, with models that are loaded."""
    pictures = torch.from_numpy(make_pictures(7, count)).permute(0, 3, 1, 2).to(models.device)
    return look_at(models, list(pictures), [True] * count)


def assert_same_persons(seen: list[Sight], expected: list[Sight]) -> None:
    """At the same places, as sure."""
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_allclose(ours.persons.boxes, theirs.persons.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.persons.scores, theirs.persons.scores, atol=1e-3)


def test_cuda_sees_the_same(bundle: Bundle) -> None:
    """The same persons at the same places, of the same age and gender."""
    expected, seen = look(bundle, "cpu"), look(bundle, CUDA)

    assert sum(len(each.persons.scores) for each in expected)
    assert_same_persons(seen, expected)
    for ours, theirs in zip(seen, expected, strict=True):
        for name, readings in theirs.readings.items():
            for mine, its in zip(ours.readings[name], readings, strict=True):
                assert mine.text == its.text
                assert (mine.number is None) == (its.number is None)
                assert (mine.number or 0) == pytest.approx(its.number or 0, rel=1e-3)


def test_half_of_the_bits_are_enough_for_a_direction(bundle: Bundle) -> None:
    """In bfloat16 each vector is within a cosine of 0.9999 of the one in float32."""
    expected, seen = look(bundle, "cpu"), look(bundle, CUDA)

    for ours, theirs in zip(seen, expected, strict=True):
        pairs = zip(
            [*ours.vectors, ours.frame_vector], [*theirs.vectors, theirs.frame_vector], strict=True
        )
        for mine, its in pairs:
            assert mine is not None
            assert its is not None
            assert float(mine @ its) >= 0.9999


@pytest.mark.parametrize("seed", range(3))
def test_batch_mates_change_nothing(bundle: Bundle, seed: int) -> None:
    """Whoever shares the batch, and in whichever row: float32 to the bit, bfloat16 nearly."""
    models = Models.load(bundle, torch.device(CUDA), batch_size=4)
    pictures = torch.from_numpy(make_pictures(7, 10)).permute(0, 3, 1, 2).to(CUDA)
    order = np.random.default_rng(seed).permutation(10).tolist()
    alone = [look_at(models, [picture], [True])[0] for picture in pictures]

    together = look_at(models, [pictures[at] for at in order], [True] * 10)

    for at, seen in zip(order, together, strict=True):
        np.testing.assert_array_equal(seen.persons.boxes, alone[at].persons.boxes)
        np.testing.assert_array_equal(seen.persons.scores, alone[at].persons.scores)
        assert seen.readings == alone[at].readings
        for mine, its in zip(seen.vectors, alone[at].vectors, strict=True):
            assert mine is not None
            assert its is not None
            assert float(mine @ its) >= 0.9999


def test_to_prepare_pictures_waits_for_nothing(bundle: Bundle) -> None:
    """Else the next batch could not be begun before this one is done."""
    models = Models.load(bundle, torch.device(CUDA), batch_size=4)
    pictures = list(torch.from_numpy(make_pictures(7, 4)).permute(0, 3, 1, 2).to(CUDA))
    parts = [models.detector, *models.attributes.values(), models.embedder]
    prepares = [part.prepare for part in parts if part is not None]
    expected = [prepare.each(pictures) for prepare in prepares]  # keeps its constants

    torch.cuda.set_sync_debug_mode("error")
    try:
        prepared = [prepare.each(pictures) for prepare in prepares]
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert len(prepares) == 4
    for ours, theirs in zip(prepared, expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_fault_of_cuda_is_told_from_a_want_of_memory() -> None:
    """In a process of its own, which no later call could use any more."""
    code = """
import torch
from inference.models.batches import is_device_fault, is_out_of_memory
rows = torch.zeros(4, device="cuda")
try:
    rows.index_select(0, torch.tensor([9], device="cuda"))
    torch.cuda.synchronize()
except RuntimeError as error:
    print(is_device_fault(error), is_out_of_memory(error))
"""

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )

    assert told.stdout.split() == ["True", "False"], told.stderr


@pytest.mark.usefixtures("spared")
def test_less_memory_makes_smaller_batches(bundle: Bundle) -> None:
    """A batch that does not fit is halved until it does, and what is seen is the same."""
    expected = look(bundle, CUDA)
    models = Models.load(bundle, torch.device(CUDA), batch_size=8192)
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + (768 << 20)
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(allowed / total)

    seen = look_with(models)

    assert 1 <= models.batch_size.number < 8192
    assert_same_persons(seen, expected)


async def test_videos_that_are_seen_at_once_do_not_mix(bundle: Bundle) -> None:
    """What is built in computes beside the models, and a batch beside the next one's frames."""
    clips = [make_pictures(seed, 24) for seed in range(6)]
    device = Device(CUDA, bundle=bundle.root, batch_size=4)
    await device.start()
    alone = []
    try:
        for clip in clips:
            slabs = make_slabs(count=1, batch_size=len(clip))
            async with device.open(slabs) as video:
                alone.append(join(await watch(video, make_batches(slabs, clip, [len(clip)]))))
            slabs.close()
        for seed in range(3):
            together, _ = await watch_together(device, clips, random.Random(seed))
            for at, expected in enumerate(alone):
                assert_same(join(together[at]), expected)
    finally:
        await device.close()


def assert_same(seen: tuple[FrameFeatures, Sights], expected: tuple[FrameFeatures, Sights]) -> None:
    """To the bit, but for directions."""
    (features, sights), (features_expected, sights_expected) = seen, expected
    arrays = {**features_expected.to_arrays(), **sights_expected.to_arrays()}
    for name, array in {**features.to_arrays(), **sights.to_arrays()}.items():
        if name in {"vectors", "frame_vectors"}:
            assert ((array * arrays[name]).sum(-1) >= 0.9999).all()
        else:
            np.testing.assert_array_equal(array, arrays[name], err_msg=name)


async def test_a_process_that_fails_is_replaced(bundle: Bundle) -> None:
    """With all that it held on the device; the next one sees the same."""
    device = Device(CUDA, bundle=bundle.root, batch_size=4)
    slabs = make_slabs()
    (batch,) = make_batches(slabs, make_pictures(7, 6), [6])
    (changed,) = make_batches(slabs, make_pictures(7, 6, width=200), [6])
    (again,) = make_batches(slabs, make_pictures(7, 6), [6])
    try:
        async with device.open(slabs) as video:
            before = await video.infer(batch)
            with pytest.raises(DeviceFaultError):
                await video.infer(changed)
        async with device.open(slabs) as video:
            after = await video.infer(again)
    finally:
        await device.close()
        slabs.close()

    assert device.restarts == 1
    assert device.name.startswith(CUDA)
    assert before.sights is not None
    assert after.sights is not None
    np.testing.assert_array_equal(after.sights.boxes, before.sights.boxes)
