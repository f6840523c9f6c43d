"""Where nothing happens, told by keyframes and by the sizes of packets."""

from dataclasses import replace

import numpy as np
import pytest

from inference.quiet import LEAST_GROUPS, Groups, find_loud, find_quiet

COUNT, WINDOWS = 20, 4
PIXELS = 640 * 360


def make_groups(seconds: float = 2.0) -> Groups:
    """Groups of a fixed camera with a little noise, in which nothing happens."""
    random = np.random.default_rng(1)
    return Groups(
        start_ms=np.arange(COUNT + 1, dtype=np.float64) * (seconds * 1000),
        difference=np.full(COUNT, 1.5),
        moved=np.zeros(COUNT),
        black=np.full(COUNT, 0.1),
        sizes=np.array([90.0, 60, 50, 50]) + random.uniform(0, 3, (COUNT, WINDOWS)),
    )


def disturbed(groups: Groups, name: str, at: object, value: float) -> Groups:
    """The same with another value somewhere."""
    array = getattr(groups, name).copy()
    array[at] = value
    return replace(groups, **{name: array})


def others(groups: Groups) -> list[int]:
    """The groups that are not quiet."""
    loud = find_loud(groups.sizes, PIXELS)
    quiet = np.zeros(COUNT, bool) if loud is None else find_quiet(groups, loud)
    return np.flatnonzero(~quiet).tolist()


def test_nothing_happens() -> None:
    """Then all groups are quiet."""
    assert others(make_groups()) == []


@pytest.mark.parametrize(
    ("name", "at", "value", "expected"),
    [
        ("moved", 7, 0.0025, []),
        ("moved", 7, 0.0015, []),
        ("sizes", (7, 2), 100.0, [7]),
        ("sizes", (7, 0), 100.0, []),
        ("black", 7, 0.89, []),
        ("black", 7, 0.91, [7]),
        ("difference", 7, 0.33, []),
        ("difference", 7, 0.31, [6, 7, 8]),
        ("difference", 0, 0.31, [0, 1]),
        ("sizes", (7, 2), 20.0, [7]),
    ],
)
def test_one_group_is_unlike(name: str, at: object, value: float, expected: list[int]) -> None:
    """Larger packets than others have at that place, or smaller, darkness, or the same picture."""
    groups = make_groups()
    if name == "moved":  # what changes the picture takes more bytes as well
        groups = disturbed(groups, "sizes", (7, 3), 500.0)
        expected = [7]

    found = others(disturbed(groups, name, at, value))

    assert found == expected


def test_what_has_changed_between_keyframes() -> None:
    """A group is not quiet if its keyframes differ, however small its packets are."""
    groups = disturbed(make_groups(), "sizes", (slice(5, 7), 3), 500.0)

    found = others(disturbed(groups, "moved", slice(6, 8), 0.0025))

    assert found == [5, 6, 7]


def test_small_packets_in_short_groups() -> None:
    """A freeze of 2 s without two alike keyframes needs two groups that are longer than that."""
    shorter, longer = (
        others(disturbed(make_groups(seconds), "sizes", (7, 2), 20.0)) for seconds in (1.0, 1.1)
    )

    assert (shorter, longer) == ([], [7])


def test_a_group_longer_than_others() -> None:
    """Where hardly any group is that long, nobody can tell what is usual there."""
    groups = make_groups()
    few = disturbed(groups, "sizes", (slice(LEAST_GROUPS - 1, None), 3), np.nan)
    few = disturbed(few, "sizes", (slice(LEAST_GROUPS - 1), 3), 5000.0)  # as if filled up
    enough = disturbed(groups, "sizes", (slice(LEAST_GROUPS, None), 3), np.nan)

    found = others(few), others(enough)

    assert found == ([*range(LEAST_GROUPS - 1)], [])


def test_noise_that_hides_persons() -> None:
    """Packets whose sizes vary by more than a person costs tell nothing: no group is quiet."""
    groups = make_groups()
    varied = 5000 + np.random.default_rng(2).uniform(0, 300, (COUNT, WINDOWS))

    found = others(replace(groups, sizes=varied))

    assert found == [*range(COUNT)]


@pytest.mark.parametrize(("size", "expected"), [(5000.0, [*range(COUNT)]), (17.0, [])])
def test_packets_of_one_size(size: float, expected: list[int]) -> None:
    """Packets that are filled up tell nothing, unlike those that hold nothing."""
    groups = replace(make_groups(), sizes=np.full((COUNT, WINDOWS), size))

    assert others(groups) == expected


def test_packets_that_do_not_follow_the_picture() -> None:
    """If most changes of the picture take no more bytes than nothing does, no group is quiet."""
    groups = disturbed(make_groups(), "moved", slice(4, 8), 0.05)
    half = disturbed(groups, "sizes", (slice(4, 6), 1), 500.0)
    fewer = disturbed(groups, "sizes", (slice(4, 5), 1), 500.0)

    found = others(half), others(fewer)

    assert found == ([4, 5, 6, 7], [*range(COUNT)])


def test_shapes() -> None:
    """Each group has one value of each kind."""
    groups = make_groups()

    with pytest.raises(ValueError, match="each group"):
        replace(groups, moved=np.zeros(COUNT - 1))
