"""Following persons from frame to frame."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shop import idf1

from inference.people import MAX_PERSONS, Detections
from inference.tracks import Tracker, overlaps

Person = tuple[float, float, float]
"""Left and top of a box of 0.1 x 0.3, and its score."""
SURE = 0.9
WIDTH = 0.1


def make_tracker(keep_seconds: float = 1.0) -> Tracker:
    """With the numbers that a bundle has by default."""
    return Tracker(threshold=0.5, low=0.1, overlap=0.2, keep_seconds=keep_seconds)


def make_frame(*persons: Person) -> Detections:
    """Boxes of one size."""
    boxes = [(left, top, left + WIDTH, top + 0.3) for left, top, _ in persons]
    scores = [score for _, _, score in persons]
    return Detections(np.array(boxes, float).reshape(-1, 4), np.array(scores, float))


def follow(frames: Sequence[Sequence[Person]], step_ms: float = 200) -> list[list[int]]:
    """The tracks of every frame's detections."""
    tracker = make_tracker()
    return [
        tracker.push(at * step_ms, make_frame(*frame)).tolist() for at, frame in enumerate(frames)
    ]


def test_persons_who_walk_keep_their_numbers() -> None:
    """Two at a time, whatever the order in which they are found."""
    frames = [
        [(0.02 * at, 0.1, SURE), (0.8 - 0.02 * at, 0.6, SURE)][:: (-1) ** at] for at in range(10)
    ]

    numbers = follow(frames)

    assert numbers == [[0, 1], [1, 0]] * 5


def walk(fps: float, score: float = SURE) -> list[list[Person]]:
    """Somebody who crosses the view at 1.4 m/s; a person's box is half a metre wide."""
    step = 1.4 / 0.5 * WIDTH / fps
    return [[(step * at, 0.3, score)] for at in range(int(0.9 / step) + 1)]


@pytest.mark.parametrize("fps", [30, 10, 5, 2.5, 1.5])
def test_who_walks_keeps_the_number_at_any_rate(fps: float) -> None:
    """Also where the box of the next frame overlaps with that of the one before no more."""
    frames = walk(fps)

    assert follow(frames, 1000 / fps) == [[0]] * len(frames)


@pytest.mark.parametrize("fps", [5, 2.5])
def test_persons_who_walk_past_each_other(fps: float) -> None:
    """Each goes on where the track expects it, not where the other is now."""
    there = walk(fps)
    back = [[(0.9 - x, 0.36, score) for x, _, score in frame] for frame in there]
    frames = [[*one, *other] for one, other in zip(there, back, strict=True)]

    assert follow(frames, 1000 / fps) == [[0, 1]] * len(frames)


def test_who_walks_and_is_hardly_seen_keeps_the_number() -> None:
    """An unsure detection goes on with a track, also where it is drawn badly."""
    frames = walk(5)
    x, y, _ = frames[6][0]
    frames[6] = [(x + 0.4 * WIDTH, y, 0.2)]

    assert follow(frames, 200) == [[0]] * len(frames)


@pytest.mark.parametrize(
    ("pause_ms", "widths", "number"),
    [(33, 0.3, 0), (33, 0.5, 1), (200, 1.2, 0), (200, 1.4, 1), (1000, 5.5, 0), (1000, 6.0, 1)],
)
def test_how_far_somebody_comes(pause_ms: float, widths: float, number: int) -> None:
    """No farther than persons may walk or run meanwhile: whoever is there is somebody else."""
    frames: list[list[Person]] = [[(0.1, 0.3, SURE)], [(0.1 + widths * WIDTH, 0.3, SURE)]]

    assert follow(frames, pause_ms) == [[0], [number]]


@pytest.mark.parametrize("pause_ms", [2_000, 60_000])
@pytest.mark.parametrize(("widths", "number"), [(11, 0), (13, 1)])
def test_a_walk_is_foreseen_for_two_seconds(pause_ms: float, widths: int, number: int) -> None:
    """After a minute whoever walks could be anywhere, and anyone would be the same person."""
    boxes = [(left, 0.1, left + 0.02, 0.16) for left in (0.1, 0.1 + 0.02 * widths)]
    tracker, score = make_tracker(), np.array([SURE])

    numbers = [
        tracker.push(at * pause_ms, Detections(np.array([box]), score)).tolist()
        for at, box in enumerate(boxes)
    ]

    assert numbers == [[0], [number]]


def test_the_one_of_the_same_size_is_preferred() -> None:
    """A grown-up who walks goes on as the grown-up, although a child is nearer."""
    tracker = make_tracker()
    adult, moved = (0.1, 0.2, 0.2, 0.5), (0.32, 0.2, 0.42, 0.5)
    child = (0.30, 0.35, 0.35, 0.5)
    tracker.push(0, Detections(np.array([adult]), np.array([SURE])))

    numbers = tracker.push(400, Detections(np.array([child, moved]), np.array([SURE, SURE])))

    assert numbers.tolist() == [1, 0]


def test_the_surer_one_is_preferred_to_one_as_near() -> None:
    """A track goes on with it, and the other is somebody else."""
    still: list[list[Person]] = [[(0.4, 0.3, SURE)]] * 3
    either: list[Person] = [(0.372, 0.3, 0.6), (0.43, 0.3, SURE)]

    assert follow([*still, either])[-1] == [1, 0]


@pytest.mark.parametrize("fps", [10, 5, 2.5])
def test_who_stops_keeps_the_number(fps: float) -> None:
    """From one frame to the next, after walking long enough to be expected to go on."""
    frames = walk(fps)
    frames += frames[-1:] * 5

    assert follow(frames, 1000 / fps) == [[0]] * len(frames)


def test_who_is_half_hidden_in_place_is_preferred_to_somebody_beside() -> None:
    """Who steps up while the person that is followed is hardly seen is somebody else."""
    still: list[list[Person]] = [[(0.4, 0.3, SURE)]] * 3
    both: list[list[Person]] = [[(0.4, 0.3, 0.2), (0.4 + 1.2 * WIDTH, 0.3, SURE)]] * 2

    assert follow([*still, *both], 400) == [[0], [0], [0], [0, 1], [0, 1]]


def test_who_is_hidden_does_not_shrink() -> None:
    """Somebody who went away from the camera and stops behind a shelf is found again there."""
    tracker, score = make_tracker(), np.array([SURE])
    sizes = [0.30, 0.27, 0.24, 0.21, 0.18, 0.15, None, None, None, None, 0.15]

    numbers = []
    for at, size in enumerate(sizes):
        box = [] if size is None else [[0.5 - size / 4, 0.4, 0.5 + size / 4, 0.4 + size]]
        found = Detections(np.reshape(np.array(box, float), (-1, 4)), score[: len(box)])
        numbers.append(tracker.push(at * 200, found).tolist())

    assert numbers == [[0]] * 6 + [[]] * 4 + [[0]]


@pytest.mark.parametrize(
    ("step_ms", "missed", "number"), [(400, 1, 0), (400, 2, 1), (100, 4, 0), (100, 5, 1)]
)
def test_who_was_missed_for_a_while_is_found_where_expected_only(
    step_ms: float, missed: int, number: int
) -> None:
    """Somebody who appears beside where a person vanished half a second ago is another."""
    still: list[list[Person]] = [[(0.4, 0.3, SURE)]] * 5
    nobody: list[list[Person]] = [[]] * missed
    beside: list[list[Person]] = [[(0.4 + 0.9 * WIDTH, 0.3, SURE)]] * 2

    assert follow([*still, *nobody, *beside], step_ms)[-1] == [number]


def test_persons_who_cross_keep_their_numbers() -> None:
    """They go on as fast as before, although their boxes coincide for a moment."""
    frames = [[(0.1 + 0.02 * at, 0.10, SURE), (0.5 - 0.02 * at, 0.16, SURE)] for at in range(21)]

    assert follow(frames) == [[0, 1]] * 21


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_a_track_survives_missed_detections(missed: int) -> None:
    """The person goes on walking meanwhile, and is where the track expects it."""
    walk: list[list[Person]] = [[(0.03 * at, 0.2, SURE)] for at in range(16)]
    for at in range(6, 6 + missed):
        walk[at] = []

    numbers = follow(walk)

    assert [each for each in numbers if each] == [[0]] * (16 - missed)


@pytest.mark.parametrize(("back_ms", "number"), [(1400, 0), (1401, 1)])
def test_a_track_ends_when_its_time_is_over(back_ms: float, number: int) -> None:
    """Who comes back after that is somebody else."""
    tracker = make_tracker(keep_seconds=1.0)
    frame, nobody = make_frame((0.4, 0.4, SURE)), make_frame()
    for ms, seen in ((0, frame), (400, frame), (800, nobody)):
        tracker.push(ms, seen)

    assert tracker.push(back_ms, frame).tolist() == [number]


def test_frames_may_be_further_apart_than_tracks_are_kept() -> None:
    """Who is in each of them was not missed in any."""
    tracker = make_tracker(keep_seconds=1.0)
    frame = make_frame((0.4, 0.4, SURE))

    assert [tracker.push(ms, frame).tolist() for ms in (0, 5000, 10000, 15000)] == [[0]] * 4


def test_an_unsure_detection_goes_on_with_a_track_and_begins_none() -> None:
    """A person half hidden stays the same person; a shadow alone is nobody."""
    half_hidden = [(0.4, 0.4, 0.2), (0.8, 0.1, 0.2)]

    numbers = follow([[(0.4, 0.4, SURE)], [(0.4, 0.4, SURE)], half_hidden, half_hidden])

    assert numbers == [[0], [0], [0, -1], [0, -1]]


def test_what_is_below_the_floor_is_of_no_use() -> None:
    """Even where a track is."""
    numbers = follow([[(0.4, 0.4, SURE)], [(0.4, 0.4, SURE)], [(0.4, 0.4, 0.09)]])

    assert numbers[2] == [-1]


def test_a_stray_detection_founds_nothing() -> None:
    """One that is not seen again at once is forgotten; the next one there has its own number."""
    numbers = follow([[(0.4, 0.4, SURE)], [], [(0.4, 0.4, SURE)], [(0.4, 0.4, SURE)]])

    assert numbers == [[0], [], [1], [1]]


def test_a_sure_detection_is_preferred_to_an_unsure_one() -> None:
    """The track goes on with the person that is certain, and the shadow beside it is nobody."""
    numbers = follow([[(0.4, 0.4, SURE)]] * 2 + [[(0.4, 0.4, 0.3), (0.43, 0.4, SURE)]])

    assert numbers[2] == [-1, 0]


def test_the_time_between_frames_may_vary() -> None:
    """Who walks steadily is where it must be after a long step and after a short one."""
    tracker = make_tracker()
    times = np.cumsum([0, 40, 40, 300, 40, 700, 40, 120, 500, 40, 900])

    numbers = [tracker.push(ms, make_frame((0.3 * ms / 1000, 0.3, SURE))).tolist() for ms in times]

    assert numbers == [[0]] * len(times)


def test_a_full_frame_is_followed() -> None:
    """Two hundred persons who all move a little."""
    start: list[Person] = [
        (0.05 * column, 0.1 * row, SURE) for row in range(10) for column in range(20)
    ]
    frames = [[(x + 0.002 * at, y, score) for x, y, score in start] for at in range(5)]

    numbers = follow(frames)

    assert numbers == [list(range(MAX_PERSONS))] * 5


@pytest.mark.parametrize(
    ("fps", "persons", "least"),
    [
        (30, 6, 0.95),
        (10, 6, 0.9),
        (5, 6, 0.82),
        (2.5, 6, 0.78),
        (1, 6, 0.55),
        (5, 20, 0.78),
        (2.5, 20, 0.6),
    ],
)
def test_a_shop(fps: float, persons: int, least: float) -> None:
    """Most of each visit is one track, and most of each track one visit."""
    assert np.mean([idf1(fps, persons=persons, seed=seed) for seed in range(4)]) >= least


PERSONS = st.lists(
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.7), st.floats(0, 1)), max_size=6, unique=True
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PERSONS, min_size=1, max_size=8))
def test_tracks_are_well_formed(frames: list[list[Person]]) -> None:
    """No track has two detections in a frame; each sure detection has one, no useless one has."""
    numbers = follow(frames)

    for frame, found in zip(frames, numbers, strict=True):
        tracked = [number for number in found if number >= 0]
        assert len(set(tracked)) == len(tracked)
        for (_, _, score), number in zip(frame, found, strict=True):
            assert number >= 0 or score < 0.5
            assert number < 0 or score >= 0.1
    everybody = [number for found in numbers for number in found if number >= 0]
    assert set(everybody) == set(range(len(set(everybody))))


@settings(max_examples=40, deadline=None)
@given(st.lists(PERSONS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_two_videos_do_not_disturb_each_other(frames: list[list[Person]], random: object) -> None:
    """The tracks of one are the same, whatever is followed in between."""
    _ = random
    first, second = make_tracker(), make_tracker()

    together = []
    for at, frame in enumerate(frames):
        together.append(first.push(at * 200, make_frame(*frame)).tolist())
        second.push(at * 200, make_frame((0.4, 0.4, SURE)))

    assert together == follow(frames)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=5))
def test_overlap_is_a_share(boxes: list[tuple[float, float, float, float]]) -> None:
    """Symmetric, 0..1, and 1 with itself where there is an area."""
    corners = np.sort(np.array(boxes).reshape(-1, 2, 2), axis=1).reshape(-1, 4)

    shares = overlaps(corners, corners)

    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    np.testing.assert_allclose(shares, shares.T, atol=1e-12)
    assert ((shares >= 0) & (shares <= 1 + 1e-12)).all()
    np.testing.assert_allclose(shares.diagonal()[areas > 1e-12], 1, atol=1e-9)
