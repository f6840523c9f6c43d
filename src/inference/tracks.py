"""Follows persons from frame to frame: ByteTrack's association, in shares of the frame and seconds.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", 2022
(https://arxiv.org/abs/2110.06864): sure detections first, by predicted overlap; then the unsure
ones, mostly persons half hidden, for the tracks that found none. The motion is SORT's Kalman filter
of constant velocity with noise in proportion to the box, as in BoT-SORT
(https://arxiv.org/abs/2206.14651), over the time that really passed.

Those papers know 30 frames a second. At a few frames a second who walks has left its own box by the
next frame, so what overlap leaves over is paired by how far it is from where the filter expects it,
within that filter's own doubt: the gate of Wojke et al., "Simple Online and Realtime Tracking with
a Deep Association Metric", 2017 (https://arxiv.org/abs/1703.07402). The doubt grows with the time
between frames; at 30 a second the gate adds next to nothing to the overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from inference.people import Detections

_FRAME_MS = 1000 / 30
"""The papers' noise is meant for one frame of 30 a second."""
_POSITION = 1 / 20
_VELOCITY = 1 / 160
_TURN = 1 / 80
"""What a velocity may change by in a frame: twice the papers', as persons stop and turn."""
_UNSURE_OVERLAP = 0.5
"""Least IoU of an unsure detection and the track that it goes on with."""
_GATE = 9.4877
"""Of the squared Mahalanobis distance: 95 % of a chi-squared with the box's four numbers."""
_RECENT_MS = 500
"""A track that was missed for longer, and twice, goes on where it is expected only."""
_MOST_MS = 2000
"""A walk is foreseen no further: the gate is then as wide as persons walk about in a room."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Track:
    """One person's predicted box; four independent filters, of centre, width and height."""

    number: int
    position: Floats
    """float64 [4]: x and y of the centre, width, height."""
    velocity: Floats
    """float64 [4], per frame of 1/30 s."""
    variance: Floats
    """float64 [3, 4]: of the position, of both, of the velocity."""
    seen_ms: float
    missed: int = 0
    """So many frames before this one in which it was not found."""
    is_new: bool = True
    """Found once only."""

    @property
    def doubt(self) -> Floats:
        """The variance of what would be measured now; float64 [4]."""
        variance: Floats = self.variance[0] + (_POSITION * _size(self.position)) ** 2
        return variance

    def predict(self, frames: float) -> None:
        """Move on by so many thirtieths of a second."""
        if self.missed:
            self.velocity[2:] = 0  # a person who is hidden does not shrink to nothing
        self.position += frames * self.velocity
        position, both, velocity = self.variance
        size = _size(self.position)
        self.variance = np.stack(
            (
                position + frames * (2 * both + frames * velocity + (_POSITION * size) ** 2),
                both + frames * velocity,
                velocity + frames * (_TURN * size) ** 2,
            )
        )

    def update(self, measured: Floats, pts_ms: float) -> None:
        """Take what was found."""
        position, both, velocity = self.variance
        total = self.doubt
        error = measured - self.position
        self.position = self.position + position / total * error
        self.velocity = self.velocity + both / total * error
        rest = 1 - position / total
        self.variance = np.stack((rest * position, rest * both, velocity - both * both / total))
        self.seen_ms, self.missed, self.is_new = pts_ms, 0, False


Likeness = Callable[[list[_Track], Indices], Floats]
"""Of each track and each candidate, float64 [T, C]."""


class Tracker:
    """The tracks of one video; its state depends on that video's earlier frames only."""

    def __init__(
        self, *, threshold: float, low: float, overlap: float, keep_seconds: float
    ) -> None:
        """`threshold` is the score of a sure detection, `low` that of one that is of use at all.

        `overlap` is the least IoU times score of a sure detection and its track. A track that
        nothing is found for ends after `keep_seconds`.
        """
        self._threshold = threshold
        self._low = low
        self._overlap = overlap
        self._keep_ms = keep_seconds * 1000
        self._tracks: list[_Track] = []
        self._count = 0
        self._pts_ms = 0.0

    def push(self, pts_ms: float, found: Detections) -> npt.NDArray[np.int64]:
        """Take the next frame, later than the one before; return the track of each detection.

        int64 [N]: numbers from 0 on, -1 for a detection that belongs to no track. A track that is
        found only once was none.
        """
        self._tracks = [track for track in self._tracks if self._lives(track, pts_ms)]
        frames = min(pts_ms - self._pts_ms, _MOST_MS) / _FRAME_MS
        for track in self._tracks:
            track.predict(frames)
        self._pts_ms = pts_ms
        look = _Look(pts_ms, found)
        sure = np.flatnonzero(found.scores >= self._threshold)
        unsure = np.flatnonzero((found.scores >= self._low) & (found.scores < self._threshold))
        old = [track for track in self._tracks if not track.is_new]
        new = [track for track in self._tracks if track.is_new]
        sure = look.pair(old, sure, partial(look.overlap, least=self._overlap, by_score=True))
        near = [track for track in old if not track.missed]
        unsure = look.pair(near, unsure, partial(look.overlap, least=_UNSURE_OVERLAP))
        recent = [
            track for track in old if track.missed <= 1 or pts_ms - track.seen_ms <= _RECENT_MS
        ]
        sure = look.pair(recent + new, sure, look.nearness)
        look.pair(near, unsure, look.nearness)
        for track in self._tracks:
            track.missed += track.seen_ms < pts_ms
        self._tracks = [track for track in self._tracks if not (track.is_new and track.missed)]
        for at in sure:
            look.numbers[at] = self._begin(found.boxes[at])
        return look.numbers

    def _lives(self, track: _Track, pts_ms: float) -> bool:
        """Tell whether it may still be found; frames may be further apart than tracks are kept."""
        return not track.missed or pts_ms - track.seen_ms <= self._keep_ms

    def _begin(self, box: Floats) -> int:
        centre = _centred(box)
        variance = np.stack(
            (
                (2 * _POSITION * _size(centre)) ** 2,
                np.zeros(4),
                (10 * _VELOCITY * _size(centre)) ** 2,
            )
        )
        track = _Track(self._count, centre, np.zeros(4), variance, self._pts_ms)
        self._tracks.append(track)
        self._count += 1
        return track.number


class _Look:
    """The detections of one frame, and the tracks that they are given to."""

    def __init__(self, pts_ms: float, found: Detections) -> None:
        self._pts_ms = pts_ms
        self._found = found
        self._centred = _centred(found.boxes)
        self.numbers = np.full(len(found.scores), -1, np.int64)
        """int64 [N]: the track of each detection, -1 for none yet."""

    def pair(self, tracks: list[_Track], candidates: Indices, likeness: Likeness) -> Indices:
        """Pair detections and tracks not yet found, for the greatest sum; return those left over.

        What `likeness` calls 0 may not pair.
        """
        tracks = [track for track in tracks if track.seen_ms < self._pts_ms]
        if not tracks or not len(candidates):
            return candidates
        alike = likeness(tracks, candidates)
        rows, columns = linear_sum_assignment(alike, maximize=True)
        pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if alike[r, c] > 0]
        for row, column in pairs:
            at = candidates[column]
            tracks[row].update(self._centred[at], self._pts_ms)
            self.numbers[at] = tracks[row].number
        return np.delete(candidates, [column for _, column in pairs])

    def overlap(
        self, tracks: list[_Track], candidates: Indices, *, least: float, by_score: bool = False
    ) -> Floats:
        """IoU with where each track is expected, or that times the score; 0 below `least`."""
        expected = _cornered(np.stack([track.position for track in tracks]))
        alike = overlaps(expected, self._found.boxes[candidates])
        if by_score:
            alike = alike * self._found.scores[candidates]
        return np.where(alike >= least, alike, 0.0)

    def nearness(self, tracks: list[_Track], candidates: Indices) -> Floats:
        """How well place and size go with what each track's filter expects; 0 outside its gate."""
        expected = np.stack([track.position for track in tracks])[:, None]
        doubt = np.stack([track.doubt for track in tracks])[:, None]
        found = self._centred[candidates][None]
        distance = ((found - expected) ** 2 / doubt).sum(2)
        sizes = expected[..., 2:], found[..., 2:]
        shape = np.clip(np.minimum(*sizes), 0, None).prod(2) / np.maximum(*sizes).prod(2)
        return np.where(distance < _GATE, (1 - distance / _GATE) * shape, 0.0)


def overlaps(some: Floats, others: Floats) -> Floats:
    """IoU of each box of `some` [N, 4] and of `others` [M, 4], by their corners; float64 [N, M]."""
    least = np.maximum(some[:, None, :2], others[None, :, :2])
    most = np.minimum(some[:, None, 2:], others[None, :, 2:])
    both = np.clip(most - least, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (some, others)]
    union = areas[0][:, None] + areas[1][None] - both
    shares: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return shares


def _size(position: Floats) -> Floats:
    """What the noise of each number is in proportion to: width, height, width, height."""
    return np.maximum(position[[2, 3, 2, 3]], 1e-4)


def _centred(boxes: Floats) -> Floats:
    """Corners [..., 4] as centre, width and height."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return np.concatenate(((first + last) / 2, last - first), axis=-1)


def _cornered(positions: Floats) -> Floats:
    half = np.maximum(positions[..., 2:], 0) / 2
    return np.concatenate((positions[..., :2] - half, positions[..., :2] + half), axis=-1)
