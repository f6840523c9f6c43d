"""Follows persons from frame to frame: ByteTrack's association, in shares of the frame and seconds.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", 2022
(https://arxiv.org/abs/2110.06864): sure detections first, by predicted overlap; then the unsure
ones, mostly persons half hidden, for the tracks that found none. The motion is SORT's Kalman filter
of constant velocity with noise in proportion to the box, as in BoT-SORT
(https://arxiv.org/abs/2206.14651), over the time that really passed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from inference.people import Detections

_FRAME_MS = 1000 / 30
"""The papers' noise is meant for one frame of 30 a second."""
_POSITION = 1 / 20
_VELOCITY = 1 / 160
_UNSURE_OVERLAP = 0.5
"""Least IoU of an unsure detection and the track that it goes on with."""
_SECOND_OVERLAP = 0.3
"""Least IoU times score of the second sight of a track: a stray detection founds nothing."""

Floats = npt.NDArray[np.float64]


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
    is_lost: bool = False
    """Not found in the frame before."""
    is_new: bool = True
    """Found once only."""

    def predict(self, frames: float) -> None:
        """Move on by so many thirtieths of a second."""
        if self.is_lost:
            self.velocity[2:] = 0  # a person who is hidden does not shrink to nothing
        self.position += frames * self.velocity
        position, both, velocity = self.variance
        size = _size(self.position)
        self.variance = np.stack(
            (
                position + frames * (2 * both + frames * velocity + (_POSITION * size) ** 2),
                both + frames * velocity,
                velocity + frames * (_VELOCITY * size) ** 2,
            )
        )

    def update(self, measured: Floats, pts_ms: float) -> None:
        """Take what was found."""
        position, both, velocity = self.variance
        total = position + (_POSITION * _size(self.position)) ** 2
        error = measured - self.position
        self.position = self.position + position / total * error
        self.velocity = self.velocity + both / total * error
        rest = 1 - position / total
        self.variance = np.stack((rest * position, rest * both, velocity - both * both / total))
        self.seen_ms, self.is_lost, self.is_new = pts_ms, False, False


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
        for track in self._tracks:
            track.predict((pts_ms - self._pts_ms) / _FRAME_MS)
        self._pts_ms = pts_ms
        numbers = np.full(len(found.scores), -1, np.int64)
        sure = np.flatnonzero(found.scores >= self._threshold)
        unsure = np.flatnonzero((found.scores >= self._low) & (found.scores < self._threshold))
        old = [track for track in self._tracks if not track.is_new]
        new = [track for track in self._tracks if track.is_new]
        rest, sure = self._match(old, sure, found, numbers, self._overlap)
        near = [track for track in rest if not track.is_lost]
        rest, _ = self._match(near, unsure, found, numbers, _UNSURE_OVERLAP, by_score=False)
        _, sure = self._match(new, sure, found, numbers, _SECOND_OVERLAP)
        for track in self._tracks:
            track.is_lost = track.seen_ms < pts_ms
        self._tracks = [track for track in self._tracks if not (track.is_new and track.is_lost)]
        for at in sure:
            numbers[at] = self._begin(found.boxes[at])
        return numbers

    def _lives(self, track: _Track, pts_ms: float) -> bool:
        """Tell whether it may still be found; frames may be further apart than tracks are kept."""
        return not track.is_lost or pts_ms - track.seen_ms <= self._keep_ms

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

    def _match(
        self,
        tracks: list[_Track],
        candidates: npt.NDArray[np.int64],
        found: Detections,
        numbers: npt.NDArray[np.int64],
        least: float,
        *,
        by_score: bool = True,
    ) -> tuple[list[_Track], npt.NDArray[np.int64]]:
        """Pair tracks and detections for the greatest sum; return those left over of both."""
        if not tracks or not len(candidates):
            return tracks, candidates
        likeness = overlaps(
            np.stack([_cornered(track.position) for track in tracks]), found.boxes[candidates]
        )
        if by_score:
            likeness = likeness * found.scores[candidates]
        # What may not pair counts nothing, so that it displaces no pair that may.
        allowed = np.where(likeness >= least, likeness, 0.0)
        rows, columns = linear_sum_assignment(allowed, maximize=True)
        pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if allowed[r, c] > 0]
        for row, column in pairs:
            at = candidates[column]
            tracks[row].update(_centred(found.boxes[at]), self._pts_ms)
            numbers[at] = tracks[row].number
        taken = {row for row, _ in pairs}
        left = [track for row, track in enumerate(tracks) if row not in taken]
        return left, np.delete(candidates, [column for _, column in pairs])


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


def _centred(box: Floats) -> Floats:
    return np.concatenate(((box[:2] + box[2:]) / 2, box[2:] - box[:2]))


def _cornered(position: Floats) -> Floats:
    half = np.maximum(position[2:], 0) / 2
    return np.concatenate((position[:2] - half, position[:2] + half))
