"""Parts of a journal say what was measured, in order."""

import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.carry import measure_carry
from inference.checkpoint import (
    Measured,
    Part,
    Past,
    Stretch,
    read_carry,
    read_past,
    read_stretch,
    write_part,
)
from inference.engine import Engine
from inference.features import DESCRIPTOR_SIZE, FrameFeatures
from inference.frames import Gap
from inference.people import Detections, Reading, TrackVectors
from inference.sights import Sight, Sights
from inference.wire import WireError


def make_measured(start: int, count: int) -> Measured:
    """Frames whose numbers can be told from each other; every third is described."""
    numbers = np.arange(start, start + count, dtype=np.float64)
    described = numbers % 3 == 0
    vectors = numbers[:, None] + np.arange(DESCRIPTOR_SIZE)
    features = FrameFeatures(
        content_score=numbers / 7,
        black_ratio=numbers / 11,
        freeze_difference=numbers / 13,
        frozen=numbers % 2 == 0,
        motion_area=numbers / 17,
        described=described,
        descriptor=(vectors * described[:, None]).astype(np.float32),
    )
    return Measured(numbers * 40.1, features, make_sights(start, count))


def make_sights(start: int, count: int) -> Sights:
    """No, one or two persons in a frame; every third frame has a vector."""
    seen = []
    for number in range(start, start + count):
        persons = number % 3
        found = Detections(
            np.full((persons, 4), 1 / (number + 1)), np.full(persons, 0.5), number % 5, number % 7
        )
        word = Reading(text="waves", score=1 / (number + 1))
        vector = np.full(4, number + 1, np.float32)
        whole = vector if number % 3 == 0 else None
        seen.append(Sight(found, {"action": [word] * persons}, [vector] * persons, 0, whole))
    return Sights.of(seen, {"action": ("sits", "waves")}, 4)


def make_stretch(*items: Measured | Gap) -> Stretch:
    """What came since the last checkpoint."""
    stretch = Stretch()
    for item in items:
        stretch.add(item)
    return stretch


def make_carry(height: int = 20, width: int = 30) -> dict[str, npt.NDArray[Any]]:
    """What the device remembers after two frames of this size, the second one at 7 s."""
    engine = Engine("cpu")
    carry = engine.open()
    engine.features(carry, np.zeros((2, height, width, 3), np.uint8), np.array([0.0, 7040.0]))
    return carry.to_arrays()


@dataclass(frozen=True, slots=True)
class Kept:
    """A journal with these parts."""

    parts: Sequence[Part]

    async def load(self) -> Sequence[Part]:
        """Return them."""
        return self.parts

    async def save(self, part: Part) -> bool:
        """Keep no more of them."""
        return part not in self.parts


def frame_of(sights: Sights, at: int) -> dict[str, bytes]:
    """All that was seen in one frame."""
    arrays = sights.cut(at, at + 1).to_arrays()
    return {name: array.tobytes() for name, array in arrays.items()}


def flatten(items: Iterable[Measured | Gap]) -> list[object]:
    """Every frame's values and every gap, in order; no persons' vectors, which no part holds."""
    flat: list[object] = []
    for item in items:
        if isinstance(item, Gap):
            flat.append(item)
            continue
        pts_ms, features, sights = item.lean()
        arrays = features.to_arrays()
        assert sights is not None
        flat += [
            (pts, *(array[at].tobytes() for array in arrays.values()), frame_of(sights, at))
            for at, pts in enumerate(pts_ms.tolist())
        ]
    return flat


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_round_trip(counts: list[int]) -> None:
    """Batches and gaps come back in the order in which they went in, bit for bit."""
    items: list[Measured | Gap] = [make_measured(0, 1)]
    total = 1
    for count in counts:
        if count:
            items.append(make_measured(total, count))
            total += count
        else:
            items.append(Gap(total * 40.1, total * 40.1 + 5, "damaged"))
    stretch = make_stretch(*items, make_measured(total, 1))

    part = write_part(3, stretch, make_carry(), "settings")
    again = read_stretch(part, "settings")

    assert again is not None
    assert flatten(again.items()) == flatten([*items, make_measured(total, 1)])
    assert again.position_ms == stretch.position_ms == part.position_ms
    assert part.number == 3
    assert read_carry(part)["second"] == 7


def test_sums_of_tracks_come_behind_their_frames() -> None:
    """And stand for the vectors of persons, which would be most of a part."""
    chance = np.random.default_rng(0)
    one = make_measured(0, 200)
    crowd = Sights.of([make_crowd(chance, 10)] * 200, {}, 512)
    tracks = TrackVectors(np.arange(10), chance.normal(size=(10, 512)).astype(np.float32))
    stretch = make_stretch(one._replace(sights=crowd))

    part = write_part(0, stretch, make_carry(), "s", tracks=tracks)
    again = read_stretch(part, "s")

    assert again is not None
    assert again.tracks is not None
    assert again.tracks.numbers.tolist() == tracks.numbers.tolist()
    assert np.array_equal(again.tracks.sums, tracks.sums)
    assert crowd.vectors.nbytes > 4_000_000
    assert len(part.stretch) < 200_000
    assert stretch.size_bytes == pytest.approx(len(part.stretch) - tracks.sums.nbytes, rel=0.05)


def make_crowd(chance: np.random.Generator, count: int) -> Sight:
    """A frame of so many persons, each with a vector."""
    vectors = list(chance.normal(size=(count, 512)).astype(np.float32))
    return Sight(Detections(chance.random((count, 4)), np.full(count, 0.9)), {}, vectors)


async def test_the_past_gives_the_sums_back() -> None:
    """Each stretch's, as soon as its frames were given."""
    tracks = TrackVectors(np.array([4]), np.ones((1, 3), np.float32))
    parts = [
        write_part(0, make_stretch(make_measured(0, 2)), make_carry(), "s", tracks=tracks),
        write_part(1, make_stretch(make_measured(2, 2)), make_carry(), "s"),
    ]
    given: list[type] = []

    await (await read_past(Kept(parts), "s")).repeat(lambda item: given.append(type(item)))

    assert given == [Measured, TrackVectors, Measured]


def test_a_gap_at_the_end_is_left_out() -> None:
    """It will be met again by whoever goes on behind the last frame; who just goes on keeps it."""
    gap = Gap(90, 120, "damaged")
    stretch = make_stretch(make_measured(0, 2), gap)

    part = write_part(0, stretch, {}, "s")
    rest = stretch.rest()
    rest.add(make_measured(3, 1))
    following = write_part(1, rest, {}, "s")

    first, second = (read_stretch(each, "s") for each in (part, following))
    assert first is not None
    assert second is not None
    assert flatten(first.items()) == flatten([make_measured(0, 2)])
    assert flatten(second.items()) == flatten([gap, make_measured(3, 1)])


def test_slices_are_small() -> None:
    """A long stretch is given back a few frames at a time: others must get their turn."""
    part = write_part(0, make_stretch(make_measured(0, 3000)), {}, "s")
    stretch = read_stretch(part, "s")
    assert stretch is not None

    sizes = [len(item[0]) for item in stretch.items() if not isinstance(item, Gap)]

    assert max(sizes) <= 256
    assert sum(sizes) == 3000
    assert all(a >= b for a, b in pairwise(sizes))


def test_other_settings() -> None:
    """What was measured under other settings cannot be gone on from."""
    part = write_part(0, make_stretch(make_measured(0, 2)), {}, "5 fps")

    assert read_stretch(part, "2 fps") is None


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x09{}", b"nonsense"])
def test_no_part(data: bytes) -> None:
    """Bytes that are no part are refused, with the error that the caller expects."""
    with pytest.raises(WireError):
        read_stretch(Part(0, 0.0, data, None), "settings")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 250), (256, 144), (90, 161)])
def test_a_carry_of_any_size(height: int, width: int) -> None:
    """What the engine remembers is taken for what it is."""
    assert measure_carry(make_carry(height, width)) == (height, width)


def mangle(name: str) -> dict[str, npt.NDArray[Any]]:
    """A carry with one thing wrong."""
    carry = make_carry()
    match name:
        case "empty":
            return {}
        case "missing":
            del carry["background_mean"]
        case "unknown":
            carry["tracks"] = np.zeros(3)
        case "flat":
            carry["hsv"] = carry["hsv"][0, 0]
        case "type":
            carry["planes"] = carry["planes"].astype(np.float32)
        case "size":
            carry["reference"] = carry["reference"][:, :, 1:]
        case "blocks":
            carry["background_mean"] = carry["background_mean"][1:]
    return carry


MANGLED = ["empty", "missing", "unknown", "flat", "type", "size", "blocks"]


@pytest.mark.parametrize("name", MANGLED)
async def test_a_carry_that_is_none(name: str) -> None:
    """There is no past to go on from: the device would die of it."""
    part = write_part(0, make_stretch(make_measured(0, 2)), mangle(name), "s")

    assert await read_past(Kept([part]), "s") == Past()


@pytest.mark.parametrize(
    "name", ["none", "another", "cut", "descriptors", "name", "length", "tracks"]
)
async def test_a_past_that_is_amiss(name: str) -> None:
    """One part that is none, or of other settings, makes all of them worthless."""
    stretches = [make_stretch(make_measured(at, 9)) for at in (0, 9, 18)]
    tracks = TrackVectors(np.array([4]), np.ones((1, 2), np.float32))
    parts = [
        write_part(number, stretch, make_carry(), "s", tracks=tracks)
        for number, stretch in enumerate(stretches)
    ]
    match name:
        case "none":
            parts = []
        case "another":
            parts[1] = write_part(1, stretches[1], make_carry(), "other")
        case "cut":
            parts[1] = replace(parts[1], stretch=parts[1].stretch[:-400])
        case "descriptors":
            parts[1] = replace(parts[1], stretch=parts[1].stretch.replace(b"[3, 256]", b"[2, 256]"))
        case "name":
            parts[1] = replace(parts[1], stretch=parts[1].stretch.replace(b"frozen", b"thawed"))
        case "length":
            parts[1] = replace(
                parts[1],
                stretch=parts[1].stretch.replace(
                    b'"pts_ms", "float64", [9]', b'"pts_ms", "float64", [8]'
                ),
            )

        case "tracks":
            data = parts[1].stretch.replace(b"[1, 2]", b"[2, 1]")
            parts[1] = replace(parts[1], stretch=data)

    assert await read_past(Kept(parts), "s") == Past()


async def test_the_past_is_decoded_piece_by_piece() -> None:
    """An hour of it takes little more memory than it has bytes, and less with each piece."""
    parts = [
        write_part(
            number,
            make_stretch(make_measured(300 * number, 300)),
            make_carry(),
            "s",
        )
        for number in range(60)
    ]
    kept = sum(len(part.stretch) for part in parts)
    frames: list[int] = []

    def take(item: Measured | Gap | TrackVectors) -> None:
        assert isinstance(item, Measured)
        frames.append(len(item[0]))

    tracemalloc.start()
    past = await read_past(Kept(parts), "s")
    await past.repeat(take)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept > 6 << 20
    assert peak < 2 << 20
    assert sum(frames) == 18000
    assert (past.count, past.stretches) == (60, [])
