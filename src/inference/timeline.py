"""Turns one video's ordered measurements into its events and embeddings; knows no pixels."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from inference.analyzers.cuts import AdaptiveCuts, ContentCuts, Cut, MinLength
from inference.analyzers.intervals import (
    BlackIntervals,
    FreezeIntervals,
    Interval,
    MotionIntervals,
)
from inference.events import Embedding, Event, Results
from inference.features import DESCRIPTOR_MODEL, DESCRIPTOR_SIZE, FrameFeatures
from inference.frames import Gap, VideoInfo

CutRule = Literal["content", "adaptive"]
MIN_SHOT_FRAMES = 15


@dataclass(slots=True)
class ShotVectors:
    """Adds up descriptors by shot, although a cut may be reported after later frames came."""

    settled: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(DESCRIPTOR_SIZE))
    pending: list[tuple[int, npt.NDArray[np.float32]]] = field(default_factory=list)

    def add(self, frame: int, vector: npt.NDArray[np.float32]) -> None:
        """Take the descriptor of a frame, in order."""
        self.pending.append((frame, vector))

    def settle(self, frame: int) -> None:
        """No cut before `frame` can come any more: its predecessors belong to the open shot."""
        while self.pending and self.pending[0][0] < frame:
            self.settled += self.pending.pop(0)[1]

    def close(self, frame: int) -> npt.NDArray[np.float32]:
        """The unit mean over the open shot, which ends before `frame`; the next shot is open."""
        self.settle(frame)
        total, self.settled = self.settled, np.zeros(DESCRIPTOR_SIZE)
        # Never zeros: each shot's first frame has a descriptor, and each descriptor's constant
        # is positive, so they cannot cancel each other out.
        return (total / np.linalg.norm(total)).astype(np.float32)


class Timeline:
    """One video's events and embeddings, collected while its frames pass."""

    def __init__(
        self,
        *,
        source_fps: float,
        sample_fps: float | None,
        cuts: CutRule = "content",
    ) -> None:
        """`source_fps` is the file's average rate; `sample_fps` None means every frame.

        With frames left out, the detectors' 15 frames become the time that 15 frames of the
        source last.
        """
        every_frame = sample_fps is None or sample_fps >= source_fps
        duration_ms = None if every_frame else MIN_SHOT_FRAMES * 1000 / source_fps
        min_length = MinLength(MIN_SHOT_FRAMES, duration_ms)
        self._cuts = ContentCuts(min_length) if cuts == "content" else AdaptiveCuts(min_length)
        self._black = BlackIntervals()
        self._freeze = FreezeIntervals()
        self._motion = MotionIntervals()
        self._vectors = ShotVectors()
        self._frames = 0
        self._second: int | None = None
        self._shot: Cut | None = None
        self._events: list[Event] = []
        self._embeddings: list[Embedding] = []

    def push(self, pts_ms: npt.NDArray[np.float64], features: FrameFeatures) -> None:
        """Take the next N frames, in presentation order: their times and measurements."""
        for at, pts in enumerate(pts_ms.tolist()):
            frame = Cut(self._frames, pts, float(features.content_score[at]))
            self._frames += 1
            if features.described[at]:
                self._describe(frame, features.descriptor[at].copy())
            self._cut(frame)
            self._measure(pts, features, at)

    def gap(self, gap: Gap) -> None:
        """Take a stretch without usable frames."""
        times = round(gap.start_ms), round(gap.end_ms)
        self._events.append(Event("decode_gap", *times, attributes={"cause": gap.cause}))

    def finish(self, info: VideoInfo, end_ms: float) -> Results:
        """All events and embeddings; `end_ms` is the end of the last frame."""
        _ = info
        if self._shot is not None:
            self._close_shot(self._shot, self._frames, end_ms)
        self._event("black", self._black.finish())
        self._event("freeze", self._freeze.finish(end_ms))
        self._event("motion", self._motion.finish(end_ms))
        return Results(
            tuple(sorted(self._events, key=lambda event: (event.start_ms, event.end_ms))),
            tuple(sorted(self._embeddings, key=lambda each: (each.start_ms, each.end_ms))),
        )

    def _describe(self, frame: Cut, vector: npt.NDArray[np.float32]) -> None:
        self._vectors.add(frame.frame, vector)
        second = int(frame.pts_ms // 1000)
        if second != self._second:
            at = round(frame.pts_ms)
            self._embeddings.append(Embedding("frame", at, at, DESCRIPTOR_MODEL, vector))
        self._second = second

    def _cut(self, frame: Cut) -> None:
        if self._shot is None:
            self._shot = frame
        cut = self._cuts.push(frame)
        if cut is not None:
            self._close_shot(self._shot, cut.frame, cut.pts_ms)
            self._shot = cut
        self._vectors.settle(self._cuts.settled_before(frame.frame + 1))

    def _close_shot(self, shot: Cut, next_frame: int, end_ms: float) -> None:
        start, end = round(shot.pts_ms), round(end_ms)
        score = shot.score if shot.frame else None
        self._events.append(Event("shot", start, end, score=score))
        self._embeddings.append(
            Embedding("shot", start, end, DESCRIPTOR_MODEL, self._vectors.close(next_frame))
        )

    def _measure(self, pts_ms: float, features: FrameFeatures, at: int) -> None:
        self._event("black", self._black.push(pts_ms, float(features.black_ratio[at])))
        freeze = self._freeze.push(
            pts_ms, float(features.freeze_difference[at]), frozen=bool(features.frozen[at])
        )
        self._event("freeze", freeze)
        self._event("motion", self._motion.push(pts_ms, float(features.motion_area[at])))

    def _event(self, event_type: str, interval: Interval | None) -> None:
        if interval is not None:
            start, end = round(interval.start_ms), round(interval.end_ms)
            self._events.append(Event(event_type, start, end, score=interval.value))
