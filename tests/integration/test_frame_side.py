"""Larger frames for the models of a bundle, and the same ones for the built-in analysis."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.factories_bundle import EMBEDDER, write_bundle, write_embedder
from tests.integration.test_bundle_analysis import Shelf

from inference.analyze import Analysis, Analyzer, Limits
from inference.backends import chunks
from inference.bundle import Bundle, read_bundle
from inference.decode import Decoding, Request
from inference.device import Device
from inference.events import Embedding
from inference.features import DESCRIPTOR_MODEL
from inference.forkserver import ForkServer
from inference.frames import FrameBatch
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.samples import paint_scene, pan, write_video
from inference.slabs import Slabs

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")
SIDE, SIZE = 512, (288, 512)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that embeds frames of 512 pixels."""
    root = tmp_path_factory.mktemp("large") / "bundle"
    root.mkdir()
    write_embedder(root / "embedder", "clip")
    write_bundle(root, EMBEDDER)
    said = root / "bundle.toml"
    said.write_text(f"frame_side = {SIDE}\n{said.read_text()}")
    return read_bundle(root)


@pytest.fixture
async def device(bundle: Bundle) -> AsyncIterator[Device]:
    """A device on the CPU with the bundle, that ends with the test."""
    device = Device("cpu", bundle=bundle.root)
    yield device
    await device.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots of a second each at 640x360, the camera panning."""
    path = tmp_path_factory.mktemp("videos") / "two.mp4"
    scenes = (paint_scene(1), paint_scene(2))
    pictures = [pan(scene, at / 24) for scene in scenes for at in range(24)]
    write_video(path, enumerate(pictures))
    return path


async def analyze(
    path: Path, device: Device, server: ForkServer, bundle: Bundle | None, shelf: Shelf | None
) -> tuple[Analysis, list[int]]:
    """Analyse every frame; tell also how many frames were looked at together."""
    counts: list[int] = []
    analyzer = Analyzer(
        device,
        server,
        sample_fps=None,
        limits=Limits(3600),
        batch_size=8,
        checkpoint_seconds=0.0,
        manifest=None if bundle is None else bundle.manifest,
    )
    found = await analyzer.analyze(path, lambda _, frames: counts.append(frames), journal=shelf)
    return found, counts


async def decode(path: Path, server: ForkServer, side: int) -> dict[float, torch.Tensor]:
    """All frames of a file at that size, uint8 [3, H, W], by their time in milliseconds."""
    frames: dict[float, torch.Tensor] = {}
    request = Request(path, None, 8, 1, tolerant=False, frame_side=side)
    with closing(Slabs.create(2, 8 * side**2 * 3)) as slabs:
        async with Decoding(server, request, Limits(3600), slabs) as decoding:
            async for batch in decoding:
                assert isinstance(batch, FrameBatch)
                pixels = torch.from_numpy(batch.pixels.copy()).permute(0, 3, 1, 2)
                frames |= dict(zip(batch.pts_ms.tolist(), pixels, strict=True))
                decoding.release(batch)
    return frames


def outline(found: Analysis) -> list[tuple[str, int, int]]:
    """The events without their numbers."""
    return [(event.event_type, event.start_ms, event.end_ms) for event in found.results.events]


def described(found: Analysis) -> list[Embedding]:
    """The built-in vectors."""
    return [each for each in found.results.embeddings if each.model == DESCRIPTOR_MODEL]


async def test_the_models_get_larger_frames(
    bundle: Bundle, device: Device, server: ForkServer, video: Path
) -> None:
    """The embedding of a frame is that of its 512 pixels, not of 256."""
    found, _ = await analyze(video, device, server, bundle, None)

    frames = await decode(video, server, SIDE)
    models = Models.load(bundle, torch.device("cpu"))
    large, small = frames[1000.0], (await decode(video, server, 256))[1000.0]
    (seen, of_small) = (
        look_at(models, [frame], [True])[0].frame_vector for frame in (large, small)
    )
    (stored,) = [
        each.vector
        for each in found.results.embeddings
        if (each.kind, each.start_ms, each.model) == ("frame", 1000, bundle.title)
    ]
    assert large.shape == (3, *SIZE)
    assert seen is not None
    assert of_small is not None
    np.testing.assert_allclose(stored, seen, atol=1e-5)
    assert np.abs(stored - of_small).max() > 1e-4


async def test_the_built_in_analysis_is_the_same(
    bundle: Bundle, device: Device, server: ForkServer, video: Path
) -> None:
    """It measures the larger frames at its own size: the same events, all but equal numbers."""
    small, _ = await analyze(video, device, server, None, None)

    large, _ = await analyze(video, device, server, bundle, None)

    assert outline(large) == outline(small)
    for one, other in zip(small.results.events, large.results.events, strict=True):
        assert other.score == (one.score and pytest.approx(one.score, rel=0.05))
    assert [event.start_ms for event in small.results.events if event.event_type == "shot"] == [
        0,
        1000,
    ]
    assert len(described(small)) == 4  # a frame of each second, and both shots
    for mine, its in zip(described(small), described(large), strict=True):
        assert (mine.kind, mine.start_ms) == (its.kind, its.start_ms)
        assert float(mine.vector @ its.vector) > 0.999


async def test_another_worker_goes_on(
    bundle: Bundle, device: Device, server: ForkServer, video: Path
) -> None:
    """A checkpoint of larger frames fits the next run's."""
    left = Shelf(3)
    whole, _ = await analyze(video, device, server, bundle, left)

    resumed, counts = await analyze(video, device, server, bundle, Shelf(99, left.parts))

    assert sum(counts) == 48 - 3 * 8
    assert resumed.results.events == whole.results.events


async def test_a_checkpoint_of_other_frames(
    bundle: Bundle, device: Device, server: ForkServer, video: Path
) -> None:
    """Nothing is gone on from whose frames had another size: vectors would be of both."""
    left = Shelf(3)
    await analyze(video, device, server, bundle, left)
    other = Bundle(bundle.root, bundle.manifest.model_copy(update={"frame_side": 300}))

    _, counts = await analyze(video, device, server, other, Shelf(99, left.parts))

    assert sum(counts) == 48


def test_large_frames_are_asked_for_in_smaller_runs() -> None:
    """Decord holds what it hands over in one call several times."""
    indices = np.arange(0, 1000, 5)

    small, large = (list(chunks(indices, most)) for most in (128, 5))

    assert [len(run) for run in small] == [26] * 7 + [18]
    assert {len(run) for run in large} == {5}
    assert np.concatenate(large).tolist() == np.concatenate(small).tolist() == indices.tolist()


async def test_large_frames_come_fewer_at_a_time(
    tmp_path: Path, device: Device, server: ForkServer, bundle: Bundle
) -> None:
    """Shared memory is bounded whatever their size: six of 1280 pixels fill a slab."""
    path = tmp_path / "large.mp4"
    scene = paint_scene(3, 1280, 720)
    write_video(path, ((at, pan(scene, at / 12, 1280, 720)) for at in range(12)))
    wide = bundle.manifest.model_copy(update={"frame_side": 1280})

    _, counts = await analyze(path, device, server, Bundle(bundle.root, wide), None)

    assert counts == [6, 6]
