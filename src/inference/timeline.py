"""Turns one video's ordered measurements into its events and embeddings; knows no pixels."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from inference.analyzers.cuts import THRESHOLD, AdaptiveCuts, ContentCuts, Cut, MinLength
from inference.analyzers.intervals import (
    BlackIntervals,
    FreezeIntervals,
    Interval,
    MotionIntervals,
)
from inference.events import Embedding, Event, Results
from inference.features import DESCRIPTOR_MODEL, FrameFeatures
from inference.frames import Gap
from inference.people import TrackVectors
from inference.persons import Persons
from inference.pictured import Pictured
from inference.sampling import AUTO_FPS, Rate, joins_ms, thinned
from inference.sights import Sights
from inference.wire import Changed

CutRule = Literal["content", "adaptive"]
MIN_SHOT_FRAMES = 15


def place(cut: Cut, change: Changed | None) -> float | None:
    """When a shot begins, in milliseconds; None where no frame changes as at a cut."""
    if change is None:
        return None if cut.is_far else cut.pts_ms
    return change.at_ms if change.score >= THRESHOLD else None


class Timeline:
    """One video's events and embeddings, collected while its frames pass."""

    def __init__(
        self,
        *,
        source_fps: float,
        sample_fps: Rate,
        cuts: CutRule = "content",
        model: str = "builtin",
        persons: Persons | None = None,
        persons_fps: float | None = None,
    ) -> None:
        """`source_fps` is the file's average rate; `sample_fps` says what of it is pushed.

        With frames left out, the detectors' 15 frames become the time that 15 frames of the
        source last. `model` is the bundle's name and version, if there is one; `persons` takes
        what its detector finds, in `persons_fps` frames a second; None: in all.
        """
        rate = AUTO_FPS if sample_fps == "auto" else sample_fps
        every_frame = rate is None or (rate != "keyframes" and rate >= source_fps)
        self._joins_ms = joins_ms(sample_fps)
        self._last_ms: float | None = None
        duration_ms = None if every_frame else MIN_SHOT_FRAMES * 1000 / source_fps
        min_length = MinLength(MIN_SHOT_FRAMES, duration_ms)
        self._cuts = ContentCuts(min_length) if cuts == "content" else AdaptiveCuts(min_length)
        self._black = BlackIntervals()
        self._freeze = FreezeIntervals()
        self._motion = MotionIntervals()
        self._pictured = [Pictured(name) for name in (DESCRIPTOR_MODEL, model)]
        self._persons = persons
        self._persons_fps = persons_fps
        self._frames = 0
        self._is_sampled = not every_frame
        self._first: Cut | None = None
        self._found: list[Cut] = []
        self._events: list[Event] = []
        self._embeddings: list[Embedding] = []
        self.invalid = 0
        """What the models of the bundle gave that is no number, or has no direction or area."""
        self.crowded = 0
        """Persons left out of frames with too many."""

    def push(
        self,
        pts_ms: npt.NDArray[np.float64],
        features: FrameFeatures,
        sights: Sights | None = None,
    ) -> None:
        """Take the next N frames, in presentation order: times, measurements, what models saw."""
        whole = [None] * len(pts_ms) if sights is None else sights.whole()
        looked_at = self.looks_at(pts_ms)
        for at, pts in enumerate(pts_ms.tolist()):
            is_apart, since = self._is_apart(pts), pts if self._last_ms is None else self._last_ms
            frame = Cut(self._frames, pts, float(features.content_score[at]), since, is_apart)
            self._frames += 1
            own = features.descriptor[at] if features.described[at] else None
            self._describe(frame, own, whole[at])
            self._cut(frame)
            self._measure(pts, features, at, is_apart=is_apart)
            self._last_ms = pts
        if sights is not None:
            self._see(pts_ms, sights, looked_at)

    def looks_at(self, pts_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Tell in which of the next N frames, float64 [N], persons are looked for; bool [N]."""
        if self._persons is None or self._persons_fps is None or not len(pts_ms):
            return np.full(len(pts_ms), self._persons is not None)
        if self._first is None or self._last_ms is None:
            return thinned(pts_ms, self._persons_fps, float(pts_ms[0]))
        return thinned(pts_ms, self._persons_fps, self._first.pts_ms, self._last_ms)

    def _see(
        self,
        pts_ms: npt.NDArray[np.float64],
        sights: Sights,
        looked_at: npt.NDArray[np.bool_],
    ) -> None:
        self.invalid += int(sights.invalid.sum())
        self.crowded += int(sights.crowded.sum())
        if self._persons is None:
            return
        for pts, seen, looked in zip(pts_ms.tolist(), sights.frames(), looked_at, strict=True):
            if looked:
                self._persons.push(pts, *seen)

    def gap(self, gap: Gap) -> None:
        """Take a stretch without usable frames."""
        times = round(gap.start_ms), round(gap.end_ms)
        self._events.append(Event("decode_gap", *times, attributes={"cause": gap.cause}))

    def vectors_since(self, pts_ms: float) -> TrackVectors | None:
        """Tell what the vectors of the tracks seen since then add up to; None without persons."""
        return None if self._persons is None else self._persons.vectors_since(pts_ms)

    def restore(self, vectors: TrackVectors) -> bool:
        """Take these sums, told after the same frames; False where they do not fit."""
        return self._persons is not None and self._persons.restore(vectors)

    def cuts(self) -> list[Cut]:
        """All cuts, if frames were left out before them: each is somewhere behind `since_ms`."""
        return self._found if self._is_sampled else []

    def finish(self, end_ms: float, changes: Mapping[int, Changed] | None = None) -> Results:
        """All events and embeddings; `end_ms` is the end of the last frame.

        `changes` say of `cuts`, by their numbers, which frame they are at.
        """
        if self._first is not None:
            self._close_shots(self._first, end_ms, changes or {})
        if self._is_apart(end_ms):
            self._leave_off()
        self._event("black", self._black.finish())
        self._event("freeze", self._freeze.finish(end_ms))
        self._event("motion", self._motion.finish(end_ms))
        if self._persons is not None:
            events, embeddings = self._persons.finish(end_ms)
            self._events += events
            self._embeddings += embeddings
        return Results(
            tuple(sorted(self._events, key=lambda event: (event.start_ms, event.end_ms))),
            tuple(sorted(self._embeddings, key=lambda each: (each.start_ms, each.end_ms))),
        )

    def _describe(self, frame: Cut, *vectors: npt.NDArray[np.float32] | None) -> None:
        """Take the frame's vectors of all models, those that there are."""
        for pictured, vector in zip(self._pictured, vectors, strict=True):
            if vector is not None:
                self._embeddings += pictured.add(frame.frame, frame.pts_ms, vector.copy())

    def _cut(self, frame: Cut) -> None:
        if self._first is None:
            self._first = frame
        cut = self._cuts.push(frame)
        if cut is not None:
            self._found.append(cut)
            for pictured in self._pictured:
                pictured.end(cut.frame)
        settled = self._cuts.settled_before(frame.frame + 1)
        for pictured in self._pictured:
            pictured.settle(settled)

    def _close_shots(self, first: Cut, end_ms: float, changes: Mapping[int, Changed]) -> None:
        for pictured in self._pictured:
            pictured.end(self._frames)
        starts: list[tuple[int, float, float | None]] = [(0, first.pts_ms, None)]
        for number, cut in enumerate(self._found):
            at_ms = place(cut, changes.get(number))
            if at_ms is not None:
                starts.append((number + 1, at_ms, cut.score))
        ends = [*starts[1:], (len(self._found) + 1, end_ms, None)]
        for (stretch, start_ms, score), (stop, stop_ms, _) in zip(starts, ends, strict=True):
            start, end = round(start_ms), round(stop_ms)
            self._events.append(Event("shot", start, end, score=score))
            for pictured in self._pictured:
                self._embeddings += pictured.embed(stretch, stop, start, end)

    def _is_apart(self, pts_ms: float) -> bool:
        return self._last_ms is not None and pts_ms - self._last_ms > self._joins_ms

    def _leave_off(self) -> None:
        """End at the last frame whatever lasts: nobody has looked at what is behind it."""
        self._event("black", self._black.finish())
        self._event("freeze", self._freeze.leave_off())
        if self._last_ms is not None:
            self._event("motion", self._motion.finish(self._last_ms))

    def _measure(self, pts_ms: float, features: FrameFeatures, at: int, *, is_apart: bool) -> None:
        if is_apart:
            self._leave_off()
        frozen = bool(features.frozen[at]) and not is_apart
        moving = 0.0 if is_apart else float(features.motion_area[at])
        self._event("black", self._black.push(pts_ms, float(features.black_ratio[at])))
        freeze = self._freeze.push(pts_ms, float(features.freeze_difference[at]), frozen=frozen)
        self._event("freeze", freeze)
        self._event("motion", self._motion.push(pts_ms, moving))

    def _event(self, event_type: str, interval: Interval | None) -> None:
        if interval is not None:
            start, end = round(interval.start_ms), round(interval.end_ms)
            self._events.append(Event(event_type, start, end, score=interval.value))
