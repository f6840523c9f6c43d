"""From measurements to events and embeddings; no pixels, no torch."""

import pickle
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.events import Event, Results
from inference.features import DESCRIPTOR_SIZE, FrameFeatures
from inference.frames import Gap
from inference.sampling import Rate
from inference.timeline import Timeline
from inference.wire import Changed

FRAME_MS = 40.0


def make_features(frames: int, cuts: tuple[int, ...] = (), seed: int = 0) -> FrameFeatures:
    """Measurements of a lively clip with these cuts; a descriptor every ten frames and at cuts."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(1, 3, frames)
    score[list(cuts)] = 60
    described = score > 15
    described[::10] = True
    vectors = rng.normal(size=(frames, DESCRIPTOR_SIZE)) * described[:, None]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return FrameFeatures(
        content_score=score,
        black_ratio=np.zeros(frames),
        freeze_difference=np.full(frames, 0.1),
        frozen=np.zeros(frames, np.bool_),
        motion_area=np.zeros(frames),
        described=described,
        descriptor=(vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32),
    )


def times_of(frames: int) -> npt.NDArray[np.float64]:
    """Presentation times at 25 frames a second."""
    return np.linspace(0, FRAME_MS * (frames - 1), frames)


def part_of(features: FrameFeatures, at: slice) -> FrameFeatures:
    """A stretch of the frames."""
    return FrameFeatures.from_arrays({n: a[at] for n, a in features.to_arrays().items()})


def reduce(features: FrameFeatures, *, gaps: tuple[Gap, ...] = ()) -> Results:
    """The results of a clip that is pushed at once."""
    timeline = Timeline(source_fps=25, sample_fps=None)
    timeline.push(times_of(len(features)), features)
    for gap in gaps:
        timeline.gap(gap)
    return timeline.finish(FRAME_MS * len(features))


def of_type(results: Results, event_type: str) -> list[tuple[int, int]]:
    """The times of the events of one type."""
    return [(e.start_ms, e.end_ms) for e in results.events if e.event_type == event_type]


def assert_equal(left: Results, right: Results) -> None:
    """The same events and the same vectors."""
    assert left.events == right.events
    assert len(left.embeddings) == len(right.embeddings)
    for ours, theirs in zip(left.embeddings, right.embeddings, strict=True):
        assert (ours.kind, ours.start_ms, ours.end_ms) == (
            theirs.kind,
            theirs.start_ms,
            theirs.end_ms,
        )
        np.testing.assert_array_equal(ours.vector, theirs.vector)


def test_shots_cover_the_video() -> None:
    """Each shot starts where the one before ends; its score is its first cut's, if it has one."""
    results = reduce(make_features(200, cuts=(50, 120)))

    shots = [event for event in results.events if event.event_type == "shot"]
    assert of_type(results, "shot") == [(0, 2000), (2000, 4800), (4800, 8000)]
    assert [event.score for event in shots] == [None, 60, 60]


def test_shot_embedding_is_the_mean_of_its_frames() -> None:
    """A shot's vector is the unit mean of the descriptors from its first frame to its last."""
    features = make_features(200, cuts=(50, 120))

    results = reduce(features)

    vectors = [each.vector for each in results.embeddings if each.kind == "shot"]
    for vector, at in zip(vectors, (slice(50), slice(50, 120), slice(120, 200)), strict=True):
        mean = features.descriptor[at].sum(0, dtype=np.float64)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_shot_embedding_with_a_late_cut() -> None:
    """A merged cut, reported long after its frame, still parts the descriptors at its frame."""
    features = make_features(200, cuts=(50, 58, 66, 74))

    results = reduce(features)

    assert of_type(results, "shot") == [(0, 2000), (2000, 2960), (2960, 8000)]
    mean = features.descriptor[74:].sum(0, dtype=np.float64)
    vectors = [each.vector for each in results.embeddings if each.kind == "shot"]
    np.testing.assert_allclose(vectors[2], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize(("apart", "shots"), [(2, 2), (3, 3)])
def test_the_shortest_shot_where_frames_are_left_out(apart: int, shots: int) -> None:
    """As long as 15 frames of the source: 600 ms, which are three frames of five a second."""
    features = make_features(50, cuts=(10, 10 + apart))
    timeline = Timeline(source_fps=25, sample_fps=5.0)

    timeline.push(np.linspace(0, 9800, 50), features)

    assert len(of_type(timeline.finish(10_000.0), "shot")) == shots


def test_one_frame_embedding_a_second() -> None:
    """The first frame of each second is embedded, however many frames have a descriptor."""
    results = reduce(make_features(110, cuts=(30, 60)))

    frames = [each for each in results.embeddings if each.kind == "frame"]
    assert [each.start_ms for each in frames] == [0, 1200, 2000, 3200, 4000]
    assert all(each.start_ms == each.end_ms for each in frames)


def test_gap() -> None:
    """A stretch without frames is an event with its cause."""
    gaps = (Gap(1200.4, 1999.6, "damaged"), Gap(3000.0, 4000.0, "truncated"))

    results = reduce(make_features(75), gaps=gaps)

    gap_events = [event for event in results.events if event.event_type == "decode_gap"]
    assert gap_events == [
        Event("decode_gap", 1200, 2000, attributes={"cause": "damaged"}),
        Event("decode_gap", 3000, 4000, attributes={"cause": "truncated"}),
    ]


def test_no_frames() -> None:
    """A video of which no frame could be read has its gaps and nothing else."""
    timeline = Timeline(source_fps=25, sample_fps=None)
    timeline.gap(Gap(0.0, 5000.0, "damaged"))

    results = timeline.finish(5000.0)

    assert [event.event_type for event in results.events] == ["decode_gap"]
    assert results.embeddings == ()


@pytest.mark.parametrize("sample_fps", [None, 5.0])
def test_order(sample_fps: float | None) -> None:
    """Events and embeddings come by start time, whenever they were found."""
    features = make_features(300, cuts=(20, 100, 180))
    features.black_ratio[90:170] = 1
    features.frozen[91:170] = True
    timeline = Timeline(source_fps=25, sample_fps=sample_fps)
    timeline.push(times_of(300), features)

    results = timeline.finish(12000.0)

    starts = [event.start_ms for event in results.events]
    assert {event.event_type for event in results.events} == {"shot", "black", "freeze"}
    assert starts == sorted(starts)
    assert [e.start_ms for e in results.embeddings] == sorted(
        e.start_ms for e in results.embeddings
    )


@given(
    st.sets(st.integers(1, 199)).map(sorted),
    st.sets(st.integers(0, 199), max_size=12).map(lambda cuts: tuple(sorted(cuts))),
)
def test_batches_do_not_matter(pieces: list[int], cuts: tuple[int, ...]) -> None:
    """However the frames are cut into batches, and saved in between, the results are the same."""
    features = make_features(200, cuts)
    whole = reduce(features)
    timeline, times = Timeline(source_fps=25, sample_fps=None), times_of(200)

    for start, end in zip([0, *pieces], [*pieces, 200], strict=True):
        timeline.push(times[start:end], part_of(features, slice(start, end)))
        timeline = pickle.loads(pickle.dumps(timeline))  # noqa: S301  # our own bytes

    assert_equal(timeline.finish(FRAME_MS * 200), whole)


@given(st.sets(st.integers(0, 199), max_size=30).map(lambda cuts: tuple(sorted(cuts))))
def test_every_shot_has_an_embedding(cuts: tuple[int, ...]) -> None:
    """Whatever the scores, shots cover the video without overlap, each with one unit vector."""
    results = reduce(make_features(200, cuts))

    shots = of_type(results, "shot")
    vectors = [each for each in results.embeddings if each.kind == "shot"]
    assert [start for start, _ in shots] == [0, *(end for _, end in shots[:-1])]
    assert shots[-1][1] == 8000
    assert [(each.start_ms, each.end_ms) for each in vectors] == shots
    assert all(abs(np.linalg.norm(each.vector) - 1) < 1e-6 for each in vectors)


def test_long_video_holds_little() -> None:
    """Descriptors of an hour-long shot are added up, not kept."""
    timeline = Timeline(source_fps=25, sample_fps=None)
    features = make_features(500)
    sizes = []

    for block in range(20):
        timeline.push(times_of(500) + block * 500 * FRAME_MS, features)
        sizes.append(len(timeline._pictured[0].pending))

    assert max(sizes) <= 1


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ([0.0] * 10 + [0.01] * 20 + [0.0] * 40, [(400, 1200)]),
        ([0.0] * 10 + [0.003] * 20 + [0.0] * 40, []),
        ([0.01] * 5 + [0.003] * 20 + [0.0] * 40, [(0, 1000)]),
        ([0.01] * 20 + [0.0] * 20 + [0.01] * 20 + [0.0] * 30, [(0, 2400)]),
        ([0.01] * 20 + [0.0] * 30 + [0.01] * 20 + [0.0] * 30, [(0, 800), (2000, 2800)]),
        ([0.01] * 20 + [0.0] * 10 + [0.003] * 20 + [0.0] * 30, [(0, 800)]),
        ([0.01] * 12 + [0.0] * 40, []),
        ([0.0] * 30 + [0.01] * 20, [(1200, 2000)]),
        ([0.01] * 20 + [0.0] * 5, [(0, 800)]),
        ([0.0] + [0.01] * 20 + [0.0] * 20 + [0.01] * 5, [(40, 1840)]),
    ],
    ids=[
        "activity",
        "too small",
        "hysteresis",
        "short pause",
        "long pause",
        "a pause ends hysteresis",
        "too short",
        "until the end",
        "quiet at the end",
        "pause, then the end",
    ],
)
def test_motion_rules(areas: list[float], expected: list[tuple[int, int]]) -> None:
    """Motion starts above one threshold, lasts above a lower one, and bridges short pauses."""
    features = make_features(len(areas))
    features.motion_area[:] = areas

    results = reduce(features)

    assert of_type(results, "motion") == expected


@pytest.mark.parametrize(
    ("gap_ms", "freezes", "blacks", "motions"),
    [
        (1000.0, [(0, 6000)], [(0, 5000)], [(1000, 6000)]),
        (1001.0, [], [], []),
    ],
)
def test_keyframes_far_apart(
    gap_ms: float,
    freezes: list[tuple[int, int]],
    blacks: list[tuple[int, int]],
    motions: list[tuple[int, int]],
) -> None:
    """Keyframes up to a second apart are joined; between others nothing is said to last or cut."""
    features = make_features(6, cuts=(3,))
    features.frozen[1:], features.black_ratio[:], features.motion_area[1:] = True, 1.0, 0.1
    timeline = Timeline(source_fps=25, sample_fps="keyframes")

    timeline.push(np.arange(6, dtype=np.float64) * gap_ms, features)
    results = timeline.finish(6 * gap_ms)

    assert of_type(results, "freeze") == freezes
    assert of_type(results, "black") == blacks
    assert of_type(results, "motion") == motions
    assert len(of_type(results, "shot")) == (2 if freezes else 1)


@pytest.mark.parametrize(
    ("rate", "changes", "expected"),
    [
        (5.0, {}, [(0, 4000), (4000, 8000), (8000, 12_000)]),
        (5.0, {1: Changed(1, 7880.0, 27.0)}, [(0, 4000), (4000, 7880), (7880, 12_000)]),
        (5.0, {0: Changed(0, 3880.0, 26.9)}, [(0, 8000), (8000, 12_000)]),
        ("keyframes", {}, [(0, 120_000)]),
        ("keyframes", {0: Changed(0, 39_500.0, 30.0)}, [(0, 39_500), (39_500, 120_000)]),
    ],
)
def test_cuts_looked_at_again(
    rate: Rate, changes: dict[int, Changed], expected: list[tuple[int, int]]
) -> None:
    """A cut moves to where it is, or is none; unseen, it stays only if its neighbours are near."""
    features = make_features(60, cuts=(20, 40))
    timeline = Timeline(source_fps=25, sample_fps=rate)
    step_ms = 200.0 if rate == 5.0 else 2000.0

    timeline.push(np.arange(60, dtype=np.float64) * step_ms, features)
    cuts = timeline.cuts()
    results = timeline.finish(60 * step_ms, changes)

    spans = [(cut.since_ms, cut.pts_ms) for cut in cuts]
    assert spans == [(19 * step_ms, 20 * step_ms), (39 * step_ms, 40 * step_ms)]
    assert of_type(results, "shot") == expected
    shots = [each for each in results.embeddings if each.kind == "shot"]
    assert [(each.start_ms, each.end_ms) for each in shots] == expected
    described = features.descriptor[features.described]
    if len(expected) == 1:
        mean = described.sum(axis=0)
        assert shots[0].vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_keyframes_in_clusters() -> None:
    """What lasts within each of two clusters of keyframes ends with it, and begins anew."""
    features = make_features(8)
    features.frozen[1:], features.black_ratio[:], features.motion_area[1:] = True, 1.0, 0.1
    times = np.array([0, 1000, 2000, 3000, 13_000, 14_000, 15_000, 16_000], np.float64)
    timeline = Timeline(source_fps=25, sample_fps="keyframes")

    timeline.push(times, features)
    results = timeline.finish(40_000)

    assert of_type(results, "freeze") == [(0, 3000), (13_000, 16_000)]
    assert of_type(results, "black") == [(0, 3000), (13_000, 16_000)]
    assert of_type(results, "motion") == [(1000, 3000), (14_000, 16_000)]
    assert of_type(results, "shot") == [(0, 40_000)]


def test_knows_no_torch() -> None:
    """The timeline runs in a process that never loads torch."""
    code = "import sys, inference.timeline; sys.exit('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)

    assert done.returncode == 0
