"""Turns what was read off one person, look by look, into stretches of time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

Box = tuple[float, float, float, float]
"""x, y, width, height as fractions of the frame, 0..1."""


@dataclass(frozen=True, slots=True)
class Told:
    """One look at the person."""

    pts_ms: float
    word: str | None
    """None: nothing could be told."""
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which the same word was told."""

    word: str
    start_ms: float
    end_ms: float
    """The first look at which it is not told any more."""
    score: float
    """The mean of those that told it."""
    best: Told
    """The one with the greatest score."""


def stretches(told: Sequence[Told], end_ms: float) -> Iterator[Stretch]:
    """Give the stretches of looks in order, the last of which lasts until `end_ms`.

    One look alone says nothing: it is taken for what the looks before and after it agree on, and
    is left out if they do not.
    """
    words = _calm([each.word for each in told])
    for word, places in groupby(range(len(told)), key=words.__getitem__):
        first, *others = places
        after = first + len(others) + 1
        sayers = [each for each in told[first:after] if each.word == word]
        if word is None or len(sayers) < 2:
            continue
        yield Stretch(
            word,
            told[first].pts_ms,
            told[after].pts_ms if after < len(told) else end_ms,
            sum(each.score for each in sayers) / len(sayers),
            max(sayers, key=lambda each: each.score),
        )


def _calm(words: Sequence[str | None]) -> list[str | None]:
    """Replace each word by its neighbours', where these are the same."""
    calm = list(words)
    for at in range(1, len(words) - 1):
        if words[at - 1] == words[at + 1]:
            calm[at] = words[at - 1]
    return calm
