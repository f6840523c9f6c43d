"""What becomes of persons who are seen frame by frame."""

from itertools import pairwise

import numpy as np
import pytest

from inference.people import Detections, Reading, TrackVectors
from inference.persons import Persons, age_group
from inference.tracks import Tracker

NOBODY = Detections(np.zeros((0, 4)), np.zeros(0))


def make_persons() -> Persons:
    """With a tracker of usual numbers."""
    return Persons(Tracker(threshold=0.5, low=0.1, overlap=0.2, keep_seconds=1.0), "people-1")


def see(
    persons: Persons,
    ms: float,
    *readings: dict[str, Reading],
    score: float = 0.9,
    vector: tuple[float, ...] | None = None,
) -> None:
    """One frame with a person for each of the readings, side by side."""
    boxes = np.array([(0.3 * at, 0.1, 0.3 * at + 0.2, 0.6) for at in range(len(readings))])
    names = readings[0].keys()
    persons.push(
        ms,
        Detections(boxes, np.full(len(readings), score)),
        {name: [each[name] for each in readings] for name in names},
        [None if vector is None else np.array(vector, np.float32)] * len(readings),
    )


def test_an_appearance_is_one_event() -> None:
    """From the first frame with the person to the first without; the box is the surest one."""
    persons = make_persons()
    persons.push(0, NOBODY, {}, [])
    see(persons, 200, {}, score=0.7)
    see(persons, 400, {}, score=0.8)
    see(persons, 500, {}, score=0.6)
    persons.push(600, NOBODY, {}, [])

    (event,), embeddings = persons.finish(800)

    assert (event.event_type, event.start_ms, event.end_ms) == ("person", 200, 600)
    assert (event.score, event.track_id) == (0.8, 1)
    assert event.bbox == pytest.approx((0, 0.1, 0.2, 0.5))
    assert (event.age, event.age_group, event.gender, event.gender_score) == (None,) * 4
    assert embeddings == []


def test_a_missed_frame_does_not_end_an_appearance() -> None:
    """Nor does the video's last frame cut it short."""
    persons = make_persons()
    see(persons, 0, {})
    see(persons, 200, {})
    persons.push(400, NOBODY, {}, [])
    see(persons, 600, {})

    (event,), _ = persons.finish(800)

    assert (event.start_ms, event.end_ms) == (0, 800)


def test_who_is_seen_once_is_nobody() -> None:
    """Detectors see ghosts; a video without persons has no events."""
    persons = make_persons()
    see(persons, 0, {})
    persons.push(200, NOBODY, {}, [])

    assert persons.finish(400) == ([], [])


def test_values_are_smoothed_over_the_track() -> None:
    """The word with the greatest sum of scores and its share; the median of the ages."""
    persons = make_persons()
    words = [("male", 0.9), ("female", 0.8), ("male", 0.7), (None, None)]
    ages = [30.0, 90.0, 34.0, None]
    for at, ((word, score), age) in enumerate(zip(words, ages, strict=True)):
        readings = {
            "gender": Reading(text=word, score=score),
            "age": Reading(number=age),
            "facing": Reading(text="left", score=0.5),
        }
        see(persons, 200 * at, readings)

    (event,), _ = persons.finish(800)

    assert event.gender == "male"
    assert event.gender_score == pytest.approx(1.6 / 3)
    assert (event.age, event.age_group) == (34.0, "middle")
    assert event.attributes == {"facing": {"value": "left", "score": 0.5}}


def test_what_they_do_has_its_times() -> None:
    """Of the attributes of which that is wanted, beside the word for all of the appearance."""
    tracker = Tracker(threshold=0.5, low=0.1, overlap=0.2, keep_seconds=1.0)
    persons = Persons(tracker, "people-1", frozenset({"action"}))
    for at, word in enumerate(["sits", "sits", "sits", "waves", "waves", None]):
        read = Reading() if word is None else Reading(text=word, score=0.6 + at / 10)
        see(persons, 200 * at, {"action": read, "facing": Reading(text="left", score=0.5)})
    persons.push(1200, NOBODY, {}, [])

    events, _ = persons.finish(1400)

    assert [(each.event_type, each.start_ms, each.end_ms) for each in events] == [
        ("person", 0, 1200),
        ("action", 0, 600),
        ("action", 600, 1000),
    ]
    person, sits, waves = events
    assert {each.track_id for each in events} == {person.track_id}
    assert sits.attributes == {"action": {"value": "sits", "score": pytest.approx(0.7)}}
    assert waves.score == pytest.approx(0.95)
    assert waves.best_ms == 800
    assert waves.bbox == pytest.approx((0, 0.1, 0.2, 0.5))
    assert person.attributes["facing"] == {"value": "left", "score": 0.5}
    assert person.attributes["action"] == {"value": "sits", "score": pytest.approx(2.1 / 5)}


def test_what_is_no_number_is_never_a_value() -> None:
    """The other frames speak for the person; if none does, the value is null."""
    persons = make_persons()
    for ms in (0, 200):
        see(persons, ms, {"age": Reading(invalid=True), "gender": Reading(invalid=True)})
    persons.push(400, Detections(np.zeros((0, 4)), np.zeros(0), invalid=5, crowded=7), {}, [])

    (event,), _ = persons.finish(600)

    assert (event.age, event.age_group, event.gender, event.gender_score) == (None,) * 4


def test_a_track_has_the_mean_direction_of_its_crops() -> None:
    """Of length 1; none where they cancel out."""
    persons, opposed = make_persons(), make_persons()
    for ms, vector in ((0, (1.0, 0.0)), (200, (0.0, 1.0))):
        see(persons, ms, {}, vector=vector)
    for ms, vector in ((0, (1.0, 0.0)), (200, (-1.0, 0.0))):
        see(opposed, ms, {}, vector=vector)

    _, (embedding,) = persons.finish(400)

    assert (embedding.kind, embedding.model, embedding.track_id) == ("track", "people-1", 1)
    assert (embedding.start_ms, embedding.end_ms) == (0, 400)
    np.testing.assert_allclose(embedding.vector, [0.5**0.5] * 2, atol=1e-6)
    assert opposed.finish(400)[1] == []


def test_persons_side_by_side_keep_their_own_values() -> None:
    """The n-th reading is the n-th detection's; track numbers count from 1 in order of time."""
    persons = make_persons()
    for ms in (0, 200):
        see(persons, ms, {"age": Reading(number=10)}, {"age": Reading(number=70)})

    events, _ = persons.finish(400)

    assert [(event.track_id, event.age, event.age_group) for event in events] == [
        (1, 10, "young"),
        (2, 70, "old"),
    ]


@pytest.mark.parametrize(
    ("age", "group"), [(0, "young"), (19.9, "young"), (20, "middle"), (59.9, "middle"), (60, "old")]
)
def test_ages_are_grouped(age: float, group: str) -> None:
    """Below 20, below 60, and the rest."""
    assert age_group(age) == group


def walk(persons: Persons, start: int, stop: int, *, vectors: bool = True) -> None:
    """Frames of two persons who come, are missed and go; each sight has a vector of its own."""
    for at in range(start, stop):
        shown = [(number, 0.3 * number) for number in (0, 1) if at % 7 != 3 + number or at > 20]
        boxes = np.array([(left, 0.1, left + 0.2, 0.6) for _, left in shown]).reshape(-1, 4)
        chance = np.random.default_rng(at)
        seen = [chance.normal(size=5).astype(np.float32) for _ in shown]
        told = [each if vectors else None for each in seen]
        persons.push(200.0 * at, Detections(boxes, np.full(len(shown), 0.9)), {}, told)


@pytest.mark.parametrize("cuts", [(1,), (4, 5), (4, 11, 18, 24), (29,)], ids=str)
def test_sums_stand_for_the_vectors(cuts: tuple[int, ...]) -> None:
    """Whoever saw the same persons without vectors, and takes the sums, goes on bit for bit."""
    undisturbed = make_persons()
    walk(undisturbed, 0, 30)
    former, told = make_persons(), []
    for start, stop in pairwise((0, *cuts)):
        walk(former, start, stop)
        told.append((start, stop, former.vectors_since(200.0 * start)))
    resumed = make_persons()
    for start, stop, sums in told:
        walk(resumed, start, stop, vectors=False)
        assert resumed.restore(sums)
    walk(resumed, cuts[-1], 30)

    events, embeddings = resumed.finish(6000)

    expected = undisturbed.finish(6000)
    assert events == expected[0]
    assert [each.vector.tobytes() for each in embeddings] == [
        each.vector.tobytes() for each in expected[1]
    ]
    assert len(embeddings) == 2


def test_only_the_tracks_seen_since_are_told() -> None:
    """So that what is kept of a video grows with its persons, not with their sights."""
    persons = make_persons()
    see(persons, 0, {}, {}, vector=(1, 0))
    see(persons, 200, {}, vector=(1, 0))
    see(persons, 400, {}, vector=(1, 0))

    sums = [persons.vectors_since(ms) for ms in (0, 200, 400)]

    assert [each.numbers.tolist() for each in sums] == [[0, 1], [0], [0]]
    assert sums[0].sums.tolist() == [[3, 0], [1, 0]]


def test_sums_of_other_tracks_are_refused() -> None:
    """They were told of other frames, whoever wrote them down."""
    persons = make_persons()
    see(persons, 0, {}, vector=(1, 0))

    taken = persons.restore(TrackVectors(np.array([0, 3]), np.ones((2, 2), np.float32)))

    assert not taken
    assert persons.vectors_since(0).sums.tolist() == [[1, 0]]
