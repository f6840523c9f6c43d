"""Every frame gets its batch once, in order, and soon, whatever else comes."""

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from inference.batching import Batcher

Frame = tuple[int, int]
"""A video, and the number of its frame."""
SIZES = st.integers(1, 9)
STEPS = st.lists(
    st.one_of(st.tuples(st.integers(0, 5), st.integers(1, 20)), st.none()), max_size=40
)
"""A video brings so many frames; None: a batch is taken."""


def make_batcher(counts: Sequence[int]) -> Batcher[Frame]:
    """Videos 0, 1, … that brought so many frames at once, in this order."""
    batcher: Batcher[Frame] = Batcher(wait_seconds=0.02)
    for video, count in enumerate(counts):
        batcher.add(video, [(video, at) for at in range(count)], now=float(video))
    return batcher


def empty(batcher: Batcher[Frame], size: int) -> list[list[Frame]]:
    """Take batches until nothing waits."""
    batches = []
    while len(batcher):
        batches.append(batcher.take(size))
    return batches


@given(STEPS, SIZES)
def test_every_frame_is_taken_once_and_in_order(
    steps: list[tuple[int, int] | None], size: int
) -> None:
    """No frame is lost or doubled, and none overtakes another one of its video."""
    batcher: Batcher[Frame] = Batcher(wait_seconds=0.0)
    brought: dict[int, int] = defaultdict(int)
    taken: list[Frame] = []
    for step in steps:
        if step is None:
            taken += batcher.take(size)
            continue
        video, count = step
        first = brought[video]
        batcher.add(video, [(video, at) for at in range(first, first + count)], now=0.0)
        brought[video] += count

    for batch in empty(batcher, size):
        taken += batch

    for video, count in brought.items():
        assert [at for each, at in taken if each == video] == list(range(count))
    assert len(taken) == sum(brought.values())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), SIZES)
def test_no_room_is_left_while_frames_wait(counts: list[int], size: int) -> None:
    """Only the last batch may be smaller: the share limits nobody when nobody else wants it."""
    batches = empty(make_batcher(counts), size)

    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), SIZES, st.data())
def test_nobody_starves(counts: list[int], size: int, data: st.DataObject) -> None:
    """A video is in a batch soon, however much those before it brought and those behind it bring.

    After each batch all others that have nothing left bring as much again.
    """
    late = len(counts)
    batcher = make_batcher(counts)
    for _ in range(data.draw(st.integers(0, 3))):  # in the middle of somebody's turn, too
        batcher.take(size)
    batcher.add(late, [(late, 0)], now=0.0)
    share = -(-size // 2)

    for _ in range(1, late * share // size + 2):
        batch = batcher.take(size)
        if (late, 0) in batch:
            return
        for video, count in enumerate(counts):
            batcher.add(video, [(video, at) for at in range(count)], now=0.0)

    raise AssertionError("not in time")


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), SIZES)
def test_with_others_a_video_fills_half_a_batch(counts: list[int], size: int) -> None:
    """More only where the others have nothing left to fill it with."""
    batcher = make_batcher(counts)

    batch = batcher.take(size)

    share = -(-size // 2)
    for video, count in enumerate(counts):
        room = size - sum(min(each, share) for at, each in enumerate(counts) if at != video)
        assert sum(each == video for each, _ in batch) <= max(min(count, share), room)


def test_videos_that_come_at_once_are_finished_one_after_the_other() -> None:
    """The first can bring more while the last are at work: the batches stay full."""
    batches = empty(make_batcher([10, 10, 10, 10]), 16)

    assert [[sum(v == video for v, _ in batch) for video in range(4)] for batch in batches] == [
        [8, 8, 0, 0],
        [0, 0, 8, 8],
        [2, 2, 2, 2],
    ]
    pairs = empty(make_batcher([6, 6, 6, 6]), 16)
    assert [[sum(v == video for v, _ in batch) for video in range(4)] for batch in pairs] == [
        [6, 6, 4, 0],
        [0, 0, 2, 6],
    ]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), SIZES)
def test_alone_is_one_video(counts: list[int], size: int) -> None:
    """A batch that must tell whose fault it was has the frames of one video."""
    batcher = make_batcher(counts)
    taken = []
    while len(batcher):
        batch = batcher.take(size, alone=True)
        assert len({video for video, _ in batch}) == 1
        taken += batch

    assert sorted(taken) == [
        (video, at) for video, count in enumerate(counts) for at in range(count)
    ]


@given(st.lists(st.integers(1, 9), max_size=5), SIZES, st.integers(1, 6))
@example([1, 2], 9, 2)
@example([1, 2], 9, 3)
def test_due(counts: list[int], size: int, videos: int) -> None:
    """At once when full or when all wait, else when the first frame has waited long enough."""
    batcher = make_batcher(counts)

    due = batcher.due(size, videos)

    if not counts:
        assert due is None
    elif sum(counts) >= size or len(counts) >= videos:
        assert due == float("-inf")
    else:
        assert due == 0.02  # video 0 came at 0


def test_the_wait_is_that_of_the_oldest_frame() -> None:
    """What is left over from a batch does not begin to wait anew."""
    batcher = make_batcher([5])
    batcher.add(1, [(1, 0)], now=7.0)
    batcher.take(1)

    assert batcher.due(9, 9) == 0.02
    batcher.drop(0)
    assert batcher.due(9, 9) == 7.02


def test_a_video_that_is_dropped_is_gone() -> None:
    """And the next one has a whole turn."""
    batcher = make_batcher([6, 9, 9])
    batcher.take(5)  # 3 of the first, 2 of the second, whose turn is not over
    batcher.drop(1)

    assert batcher.take(5) == [(2, 0), (2, 1), (2, 2), (0, 3), (0, 4)]


def test_a_video_that_is_dropped_takes_no_other_ones_turn_along() -> None:
    """Whoever is in the middle of a turn has the rest of it, no more."""
    batcher = make_batcher([6, 9, 9])
    batcher.take(5)
    batcher.drop(0)
    batcher.drop(7)

    assert batcher.take(5) == [(1, 2), (2, 0), (2, 1), (2, 2), (1, 3)]
