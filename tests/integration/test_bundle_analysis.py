"""Analyses with a bundle, from the file to what would be stored: disturbed, and of odd material."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.factories_bundle import DETECTOR, write_bundle, write_detector
from tests.persons import RED, make_people, paint, write_passing, write_walk

from inference.analyze import Analysis, Analyzer, Limits
from inference.bundle import Bundle, read_bundle, seal_bundle
from inference.checkpoint import JournalFullError, Part
from inference.device import Device
from inference.forkserver import ForkServer
from inference.samples import Picture, write_video

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Red is a man of 40, blue a woman of 70."""
    return make_people(tmp_path_factory.mktemp("people") / "bundle")


@pytest.fixture
async def device(bundle: Bundle) -> AsyncIterator[Device]:
    """A device on the CPU with the bundle, that ends with the test."""
    device = Device("cpu", bundle=bundle.root)
    yield device
    await device.close()


@dataclass(slots=True)
class Shelf:
    """A journal in memory that takes so many parts, and then is full."""

    room: int
    parts: list[Part] = field(default_factory=list)
    refused: int = 0

    async def load(self) -> Sequence[Part]:
        """Return what was kept."""
        return tuple(self.parts)

    async def save(self, part: Part) -> bool:
        """Keep a part as the real one does."""
        if part.number >= self.room:
            self.refused += 1
            raise JournalFullError
        before = [replace(each, carry=None) for each in self.parts[: part.number]]
        self.parts = [*before, part]
        return True


@dataclass(slots=True)
class Moody(Shelf):
    """One that keeps the second and the twelfth of the parts that it is given."""

    asked: int = 0

    async def save(self, part: Part) -> bool:
        """Keep a part, or say that this was not possible now."""
        self.asked += 1
        return self.asked in {2, 12} and await Shelf.save(self, part)


async def analyze(
    path: Path, bundle: Bundle, device: Device, server: ForkServer, shelf: Shelf
) -> tuple[Analysis, int]:
    """Analyse every frame, with a checkpoint for each batch; tell how many were looked at."""
    counts: list[int] = []
    analyzer = Analyzer(
        device,
        server,
        sample_fps=None,
        limits=Limits(3600),
        batch_size=4,
        checkpoint_seconds=0.0,
        manifest=bundle.manifest,
    )
    found = await analyzer.analyze(path, lambda _, frames: counts.append(frames), journal=shelf)
    return found, sum(counts)


def looking(bundle: Bundle, fps: float) -> Bundle:
    """The bundle with a detector that looks at so many frames a second."""
    detector = bundle.manifest.detector
    assert detector is not None
    rarely = {"detector": detector.model_copy(update={"fps": fps})}
    return Bundle(bundle.root, bundle.manifest.model_copy(update=rarely))


def rows(analysis: Analysis) -> list[object]:
    """All that would be stored, the vectors' bits included."""
    embeddings = [
        (each.kind, each.start_ms, each.end_ms, each.model, each.track_id, each.vector.tobytes())
        for each in analysis.results.embeddings
    ]
    return [*analysis.results.events, *embeddings, analysis.invalid, analysis.crowded]


async def test_killed_in_the_middle(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """Whoever finds the parts that a worker left ends with its rows, and repeats none of them.

    The parts are those that were there when it was killed: before, among and behind both persons.
    A journal that is full is not asked again.
    """
    path = tmp_path / "walk.mp4"
    write_walk(path)
    for kept in (1, 6, 9, 12):
        left = Shelf(kept)
        whole, _ = await analyze(path, bundle, device, server, left)

        resumed, repeated = await analyze(path, bundle, device, server, Shelf(99, left.parts))

        assert (len(left.parts), left.refused) == (kept, 1)
        assert repeated == 50 - 4 * kept
        assert rows(resumed) == rows(whole)
        persons = [each for each in whole.results.events if each.event_type == "person"]
        assert [each.track_id for each in persons] == [1, 2]
        assert sum(each.kind == "track" for each in whole.results.embeddings) == 2


async def test_parts_that_fail_for_a_while(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """The journal is asked again; the next one that is kept has the sums of all of them.

    Also those of a person who is gone by then.
    """
    path = tmp_path / "walk.mp4"
    write_walk(path)
    left = Moody(99)
    whole, _ = await analyze(path, bundle, device, server, left)

    resumed, repeated = await analyze(path, bundle, device, server, Shelf(99, left.parts))

    assert (left.asked, len(left.parts), repeated) == (13, 2, 2)
    assert rows(resumed) == rows(whole)


async def test_a_checkpoint_of_other_persons(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """It cannot be gone on from, and the video is analysed from its beginning."""
    path = tmp_path / "walk.mp4"
    write_walk(path)
    left = Shelf(9)
    whole, _ = await analyze(path, bundle, device, server, left)
    mangled = bytearray(left.parts[-1].stretch)
    assert b'["track_numbers", "int64", [2]], ["track_sums", "float32", [2, 24]]]' in mangled
    mangled[-2 * 24 * 4 - 8] = 77  # the second number: it lies before the sums
    left.parts[-1] = replace(left.parts[-1], stretch=bytes(mangled))

    again, repeated = await analyze(path, bundle, device, server, Shelf(99, left.parts))

    assert repeated == 50
    assert rows(again) == rows(whole)


async def test_a_detector_that_looks_now_and_then(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """Twice a second of ten frames: the same persons, their times those of frames looked at.

    What a kill left is gone on with as ever; the built-in analysis has seen every frame.
    """
    path = tmp_path / "walk.mp4"
    write_walk(path)
    sometimes, left = looking(bundle, 2.0), Shelf(6)
    every, _ = await analyze(path, bundle, device, server, Shelf(99))
    before = device.batch_frames

    found, _ = await analyze(path, sometimes, device, server, left)
    looked_at = device.batch_frames - before
    resumed, repeated = await analyze(path, sometimes, device, server, Shelf(99, left.parts))

    others = [each for each in every.results.events if each.event_type != "person"]
    persons = [each for each in found.results.events if each.event_type == "person"]
    assert [each for each in found.results.events if each.event_type != "person"] == others
    assert [(each.start_ms, each.end_ms) for each in persons] == [(1000, 4000), (2500, 5000)]
    assert [each.gender for each in persons] == ["male", "female"]
    assert 10 <= looked_at < 20  # two a second, and those that are embedded as a whole
    assert repeated == 50 - 4 * 6
    assert rows(resumed) == rows(found)


async def test_a_detector_that_looks_now_and_then_at_who_walks(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """One appearance, although no box overlaps with that of the look before."""
    path = tmp_path / "passing.mp4"
    write_passing(path)

    found, _ = await analyze(path, looking(bundle, 2.0), device, server, Shelf(99))

    persons = [each for each in found.results.events if each.event_type == "person"]
    assert [(each.start_ms, each.end_ms, each.gender) for each in persons] == [(0, 4000, "male")]


async def test_no_persons(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """There is no event of any, and what is seen of the frames as a whole is there."""
    path = write_frames(tmp_path / "v.mp4", [paint()] * 20)

    found, _ = await analyze(path, bundle, device, server, Shelf(99))

    results = found.results
    assert {each.event_type for each in results.events} <= {"shot", "freeze"}
    assert {each.kind for each in results.embeddings if each.model == "people-1"} == {
        "frame",
        "shot",
    }
    assert (found.invalid, found.crowded) == (0, 0)


async def test_a_crowd(tmp_path: Path, server: ForkServer) -> None:
    """Of more than two hundred the best are followed, and the others are counted."""
    write_detector(tmp_path / "detector", "yolos", "person", tokens=230)
    wide = DETECTOR.replace("0.5", "0.0") + "[tracker]\nlow = 0.0\n"
    bundle = write_bundle(tmp_path, wide)
    path = write_frames(tmp_path / "v.mp4", [paint((RED, (1, 2, 3, 6)))] * 4)
    device = Device("cpu", bundle=bundle.root)

    found, _ = await analyze(path, bundle, device, server, Shelf(99))
    await device.close()

    assert 0 < found.crowded <= 4 * 30
    persons = [each for each in found.results.events if each.event_type == "person"]
    assert 0 < len(persons) <= 4 * 200


async def test_what_is_no_number(tmp_path: Path, server: ForkServer) -> None:
    """Persons without age, nothing of the bundle's vectors, and a count."""
    root = make_people(tmp_path / "bundle").root
    for name in ("age", "embedder"):
        weights = root / name / "model.safetensors"
        nothing = {
            name: torch.full_like(each, float("nan")) for name, each in load_file(weights).items()
        }
        save_file(nothing, weights, {"format": "pt"})
    seal_bundle(root)
    bundle = read_bundle(root)
    path = tmp_path / "walk.mp4"
    write_walk(path)
    device = Device("cpu", bundle=root)

    found, _ = await analyze(path, bundle, device, server, Shelf(99))
    await device.close()

    persons = [each for each in found.results.events if each.event_type == "person"]
    assert [(each.age, each.age_group, each.gender) for each in persons] == [
        (None, None, "male"),
        (None, None, "female"),
    ]
    assert {each.model for each in found.results.embeddings} == {"dct-hog-v1"}
    # Age and vector of 54 sights, and the vectors of the first frame of each second at least.
    assert 2 * 54 + 5 <= found.invalid <= 2 * 54 + 50


async def test_the_size_changes(
    tmp_path: Path, bundle: Bundle, device: Device, server: ForkServer
) -> None:
    """Frames of another size are fitted in: the person stays, every frame counts."""
    first = [paint((RED, (1, 2, 3, 6)))] * 12
    taller = [picture.repeat(2, 0)[:, ::2] for picture in first]
    write_frames(tmp_path / "a.ts", first)
    write_frames(tmp_path / "b.ts", taller, start=12)
    path = tmp_path / "v.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())

    found, looked_at = await analyze(path, bundle, device, server, Shelf(99))

    (person,) = (each for each in found.results.events if each.event_type == "person")
    assert looked_at == 24
    assert person.end_ms - person.start_ms == 2400
    assert person.bbox == pytest.approx((1 / 8, 2 / 8, 2 / 8, 4 / 8), abs=0.01)
    assert device.restarts == 0


def write_frames(path: Path, pictures: Iterable[Picture], start: int = 0) -> Path:
    """Ten frames a second."""
    write_video(
        path,
        enumerate(pictures, start),
        time_base=Fraction(1, 10),
        fps=Fraction(10),
        options={"crf": "4", "bf": "0"},
    )
    return path
