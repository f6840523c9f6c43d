"""Looks at one person become stretches of time."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inference.stretches import Told, stretches

BOX = (0.1, 0.2, 0.3, 0.4)
TIMES = st.lists(st.sampled_from(["sits", "waves", None]), max_size=12)


def tell(words: str) -> list[tuple[str, float, float]]:
    """The stretches of looks 100 ms apart: s sits, w waves, - nothing; the last lasts 100 ms."""
    names = {"s": "sits", "w": "waves", "-": None}
    told = [Told(100.0 * at, names[each], 0.8, BOX) for at, each in enumerate(words)]
    return [(each.word, each.start_ms, each.end_ms) for each in stretches(told, 100.0 * len(words))]


def test_a_word_lasts_until_another_is_told() -> None:
    """Or until nothing is."""
    assert tell("sssww") == [("sits", 0, 300), ("waves", 300, 500)]
    assert tell("ss--ww") == [("sits", 0, 200), ("waves", 400, 600)]


def test_one_look_alone_says_nothing() -> None:
    """It is what its neighbours agree on, and nothing if they do not."""
    assert tell("sswss") == [("sits", 0, 500)]
    assert tell("sws") == tell("sss") == [("sits", 0, 300)]
    assert tell("ss-ss") == [("sits", 0, 500)]
    assert tell("--s--") == []
    assert tell("swsw") == tell("swswswsw") == []
    assert tell("ssw--") == [("sits", 0, 200)]
    assert tell("s") == []
    assert tell("") == []


def test_the_score_is_that_of_those_who_said_it() -> None:
    """Their mean; the best look is the surest of them."""
    looks = [("sits", 0.6), ("waves", 1.0), ("sits", 0.9), ("sits", 0.6)]
    told = [Told(100.0 * at, word, score, (score,) * 4) for at, (word, score) in enumerate(looks)]

    (stretch,) = stretches(told, 400)

    assert (stretch.word, round(stretch.score, 6)) == ("sits", 0.7)
    assert (stretch.best.pts_ms, stretch.best.box[0]) == (200, 0.9)


@given(TIMES)
def test_stretches_are_apart_and_in_order(words: list[str | None]) -> None:
    """Each of two looks at least, none beyond the end, and none of them empty."""
    told = [Told(100.0 * at, word, 0.5, BOX) for at, word in enumerate(words)]

    found = list(stretches(told, 100.0 * len(told)))

    assert all(each.end_ms - each.start_ms >= 200 for each in found)
    assert all(one.end_ms <= other.start_ms for one, other in pairwise(found))
    assert all(each.best.word == each.word for each in found)
    assert not found or (found[0].start_ms >= 0 and found[-1].end_ms <= 100.0 * len(told))
