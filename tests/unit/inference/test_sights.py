"""What the models saw, as arrays and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.people import Detections, Reading
from inference.sights import Sight, Sights
from inference.wire import pack, read_arrays, unpack_header

SIZE = 3
WORDS: dict[str, tuple[str, ...]] = {"age": (), "gender": ("female", "männlich\n"), "old": ("a",)}


def make_sight(persons: int, seed: int = 0, *, framed: bool = False) -> Sight:
    """A frame with so many persons, of whom every third has no value and no vector."""
    random = np.random.default_rng(seed)
    lacking = [at % 3 == 2 for at in range(persons)]
    readings = {
        "age": [Reading() if lacks else Reading(number=random.uniform(1, 99)) for lacks in lacking],
        "gender": [
            Reading(invalid=True) if lacks else Reading(WORDS["gender"][at % 2], random.random())
            for at, lacks in enumerate(lacking)
        ],
        "old": [Reading() for _ in lacking],
    }
    vectors = [None if lacks else random.random(SIZE, np.float32) for lacks in lacking]
    found = Detections(random.random((persons, 4)), random.random(persons), seed, seed + 1)
    return Sight(found, readings, vectors, 2, random.random(SIZE, np.float32) if framed else None)


def make_sights(counts: Sequence[int]) -> Sights:
    """Frames with so many persons; every other one has a vector as a whole."""
    seen = [make_sight(count, at, framed=at % 2 == 0) for at, count in enumerate(counts)]
    return Sights.of(seen, WORDS, SIZE)


def assert_equal(one: Sights, other: Sights) -> None:
    """Bit for bit the same, NaN too."""
    arrays, expected = one.to_arrays(), other.to_arrays()
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


COUNTS = st.lists(st.integers(0, 5), max_size=8)


@given(COUNTS)
def test_what_was_seen_comes_back(counts: list[int]) -> None:
    """Each frame's persons with their own values, and nothing where there was nothing."""
    seen = [make_sight(count, at, framed=at % 2 == 0) for at, count in enumerate(counts)]
    sights = Sights.of(seen, WORDS, SIZE)

    back = list(sights.frames())

    assert len(sights) == len(back) == len(counts)
    for sight, (found, readings, vectors) in zip(seen, back, strict=True):
        np.testing.assert_array_equal(found.boxes, sight.persons.boxes)
        np.testing.assert_array_equal(found.scores, sight.persons.scores)
        unread = sum(reading.invalid for reading in sight.readings["gender"])
        assert found.crowded == sight.persons.crowded
        assert found.invalid == sight.persons.invalid + sight.invalid + unread
        for name, part in sight.readings.items():
            assert readings[name] == [Reading(r.text, r.score, r.number) for r in part]
        assert [v is None for v in vectors] == [v is None for v in sight.vectors]
    whole = sights.whole()
    assert [vector is not None for vector in whole] == [at % 2 == 0 for at in range(len(counts))]
    for vector, sight in zip(whole, seen, strict=True):
        if vector is not None:
            np.testing.assert_array_equal(vector, sight.frame_vector)


@given(COUNTS)
def test_it_travels(counts: list[int]) -> None:
    """Over the wire's few types, words and all."""
    sights = make_sights(counts)

    prefix, text, *parts = pack({}, sights.to_arrays())
    header, _ = unpack_header(text)
    back = Sights.from_arrays(read_arrays(header, b"".join(parts)))

    assert int.from_bytes(prefix, "big") == len(text)
    assert_equal(back, sights)


@given(COUNTS.filter(bool), st.data())
def test_stretches_that_are_joined_and_cut(counts: list[int], data: st.DataObject) -> None:
    """Any cut of what was joined is what was cut, wherever the seam is."""
    sights = make_sights(counts)
    seam = data.draw(st.integers(0, len(counts)))

    joined = Sights.join([sights.cut(0, seam), sights.cut(seam, len(counts))])

    assert_equal(joined, sights)


def test_other_bundles_do_not_join() -> None:
    """Their numbers mean other words."""
    others = Sights.of([make_sight(1)], WORDS | {"gender": ("männlich\n", "female")}, SIZE)

    with pytest.raises(ValueError, match="not the same attributes"):
        Sights.join([make_sights([1]), others])


@pytest.mark.parametrize(
    "changed",
    [
        {"scores": np.zeros(2)},
        {"boxes": np.zeros((3, 5))},
        {"person_count": np.array([4, -1])},
        {"person_count": np.array([1, 1])},
        {"frame_vectors": np.zeros((2, SIZE), np.float32)},
        {"vectors": np.zeros((3, SIZE + 1), np.float32)},
        {"gender.text": np.array([0, 1, 2], np.int32)},
        {"gender.score": np.zeros(2)},
        {"gender.words": np.frombuffer(b"{", np.uint8)},
        {"unknown": np.zeros(3)},
        {"gender.unknown": np.zeros(3)},
        {"other.text": np.zeros(3, np.int32)},
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any]) -> None:
    """By an error that says so, instead of a wrong value later."""
    arrays = make_sights([1, 2]).to_arrays()

    with pytest.raises((KeyError, TypeError, ValueError)):
        Sights.from_arrays(arrays | changed)
