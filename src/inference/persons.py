"""Turns what is seen of persons, frame by frame, into one event for each appearance.

And one for each stretch of it in which they did the same, where the bundle tells what they do.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import median

import numpy as np
import numpy.typing as npt

from inference.events import Embedding, Event
from inference.people import Detections, Reading, TrackVectors
from inference.stretches import Box, Stretch, Told, stretches
from inference.tracks import Tracker

_GROUPS = ((20, "young"), (60, "middle"))
"""Below these ages; everybody else is `old`."""
Vectors = Sequence[npt.NDArray[np.float32] | None]


@dataclass(slots=True)
class _Appearance:
    """What is known of one track."""

    start_ms: float
    end_ms: float = 0.0
    """The first frame in which the person is not seen any more."""
    sights: int = 0
    score: float = 0.0
    best_ms: float = 0.0
    """The frame with the greatest score."""
    box: Box = (0.0, 0.0, 0.0, 0.0)
    words: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """Scores by attribute and word."""
    told: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """Each look, by attribute, of those whose stretches are wanted."""
    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    vector: npt.NDArray[np.float32] | None = None
    """The sum of its crops' unit vectors."""

    def see(self, pts_ms: float, box: Box, score: float) -> None:
        self.sights += 1
        if score > self.score:
            self.score, self.best_ms, self.box = score, pts_ms, box

    def read(self, name: str, reading: Reading) -> None:
        if reading.text is not None and reading.score is not None:
            self.words[name][reading.text].append(reading.score)
        if reading.number is not None:
            self.numbers[name].append(reading.number)

    def word(self, name: str) -> tuple[str | None, float | None]:
        """The word with the greatest sum of scores, and its share of all that was read."""
        words = self.words.get(name)
        if not words:
            return None, None
        best = max(sorted(words), key=lambda word: sum(words[word]))
        return best, sum(words[best]) / sum(len(scores) for scores in words.values())

    def number(self, name: str) -> float | None:
        """The median."""
        numbers = self.numbers.get(name)
        return median(numbers) if numbers else None


class Persons:
    """One video's persons, collected while its frames pass."""

    def __init__(
        self, tracker: Tracker, model: str, stretched: frozenset[str] = frozenset()
    ) -> None:
        """`model` is what the embeddings of tracks are known by.

        Of the attributes `stretched`, it is told too from when to when they said the same.
        """
        self._tracker = tracker
        self._model = model
        self._stretched = stretched
        self._tracks: dict[int, _Appearance] = {}
        self._visible: set[int] = set()

    def push(
        self,
        pts_ms: float,
        found: Detections,
        readings: Mapping[str, Sequence[Reading]],
        vectors: Vectors,
    ) -> None:
        """Take the next frame; `readings` and `vectors` are in the order of the detections."""
        self._close(pts_ms)
        for at, number in enumerate(self._tracker.push(pts_ms, found).tolist()):
            if number < 0:
                continue
            track = self._tracks.setdefault(number, _Appearance(pts_ms))
            self._visible.add(number)
            box = _sides(found.boxes[at])
            track.see(pts_ms, box, float(found.scores[at]))
            for name, part in readings.items():
                track.read(name, part[at])
                if name in self._stretched:
                    told = Told(pts_ms, part[at].text, part[at].score or 0.0, box)
                    track.told[name].append(told)
            vector = vectors[at]
            if vector is not None:
                track.vector = vector if track.vector is None else track.vector + vector

    def vectors_since(self, pts_ms: float) -> TrackVectors:
        """Tell the sums of the tracks that were seen at `pts_ms` or later."""
        found = {
            number: track.vector
            for number, track in self._tracks.items()
            if track.vector is not None and (number in self._visible or track.end_ms > pts_ms)
        }
        sums = np.stack(list(found.values())) if found else np.zeros((0, 0), np.float32)
        return TrackVectors(np.array(list(found), np.int64), sums)

    def restore(self, vectors: TrackVectors) -> bool:
        """Take sums that were told after the same frames; False where those had other tracks."""
        if not all(number in self._tracks for number in vectors.numbers.tolist()):
            return False
        for number, vector in zip(vectors.numbers.tolist(), vectors.sums, strict=True):
            self._tracks[number].vector = vector.copy()  # a view would keep a whole part
        return True

    def finish(self, end_ms: float) -> tuple[list[Event], list[Embedding]]:
        """All appearances by their start, and their stretches; the last frame ends at `end_ms`.

        What was seen in a single frame is left out: detectors see ghosts.
        """
        self._close(end_ms)
        tracks = [track for track in self._tracks.values() if track.sights > 1]
        pairs = list(zip(count(1), sorted(tracks, key=lambda track: track.start_ms), strict=False))
        return (
            [event for number, track in pairs for event in _events(number, track)],
            [
                embedding
                for number, track in pairs
                if (embedding := self._embedding(number, track)) is not None
            ],
        )

    def _close(self, pts_ms: float) -> None:
        for number in self._visible:
            self._tracks[number].end_ms = pts_ms
        self._visible.clear()

    def _embedding(self, number: int, track: _Appearance) -> Embedding | None:
        """The mean direction; none where there is no vector, or they cancel out."""
        length = 0.0 if track.vector is None else float(np.linalg.norm(track.vector))
        if track.vector is None or length < 1e-6:
            return None
        vector = (track.vector / length).astype(np.float32)
        times = round(track.start_ms), round(track.end_ms)
        return Embedding("track", *times, self._model, vector, number)


def _sides(box: npt.NDArray[np.float64]) -> Box:
    left, top, right, bottom = box.tolist()
    return left, top, right - left, bottom - top


def _events(number: int, track: _Appearance) -> Iterator[Event]:
    yield _event(number, track)
    for name, told in sorted(track.told.items()):
        for stretch in stretches(told, track.end_ms):
            yield _stretch_event(number, name, stretch)


def _stretch_event(number: int, name: str, stretch: Stretch) -> Event:
    return Event(
        name,
        round(stretch.start_ms),
        round(stretch.end_ms),
        score=stretch.score,
        track_id=number,
        bbox=stretch.best.box,
        attributes={name: {"value": stretch.word, "score": stretch.score}},
        best_ms=stretch.best.pts_ms,
    )


def _event(number: int, track: _Appearance) -> Event:
    age = track.number("age")
    gender, gender_score = track.word("gender")
    attributes: dict[str, object] = {}
    for name in sorted((track.words.keys() | track.numbers.keys()) - {"age", "gender"}):
        word, score = track.word(name)
        known = {"value": track.number(name)} if word is None else {"value": word, "score": score}
        attributes[name] = known
    return Event(
        "person",
        round(track.start_ms),
        round(track.end_ms),
        score=track.score,
        track_id=number,
        bbox=track.box,
        age=age,
        age_group=None if age is None else age_group(age),
        gender=gender,
        gender_score=gender_score,
        attributes=attributes,
        best_ms=track.best_ms,
    )


def age_group(age: float) -> str:
    """`young` below 20, `middle` below 60, else `old`."""
    return next((name for limit, name in _GROUPS if age < limit), "old")
