"""Where a shot ends: PySceneDetect's two rules over its content score.

Source: PySceneDetect 0.7, `ContentDetector` with `FlashFilter` in merge mode, `AdaptiveDetector`.
"""

from collections import deque
from dataclasses import dataclass, field

THRESHOLD = 27.0
"""Content score of a cut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The first frame of a new shot."""

    frame: int
    """Index among the analysed frames."""
    pts_ms: float
    score: float
    """Content score of the frame, 0..255."""
    since_ms: float = 0.0
    """Presentation time of the analysed frame before it; the cut is behind that."""
    is_far: bool = False
    """So far behind that one that whether there is a cut at all has to be looked up."""


@dataclass(frozen=True, slots=True)
class MinLength:
    """How long a shot lasts at least: a number of frames, or a time when frames are left out."""

    frames: int = 15
    duration_ms: float | None = None

    def met(self, start: Cut, end: Cut) -> bool:
        """Whether a shot from `start` to `end` is long enough."""
        if self.duration_ms is None:
            return end.frame - start.frame >= self.frames
        return end.pts_ms - start.pts_ms >= self.duration_ms


@dataclass(slots=True)
class ContentCuts:
    """ContentDetector: a cut where the score reaches the threshold; cuts too near are merged."""

    min_length: MinLength = field(default_factory=MinLength)
    threshold: float = THRESHOLD
    last_above: Cut | None = None
    merge_start: Cut | None = None
    found_any: bool = False

    def push(self, frame: Cut) -> Cut | None:
        """Take the next frame and its score; a cut may be reported up to a merge later."""
        above = frame.score >= self.threshold
        long_enough = self.min_length.met(self.last_above or frame, frame)
        if above or self.last_above is None:
            self.last_above = frame
        if self.merge_start is not None:
            return self._end_merge() if long_enough and not above else None
        if not above:
            return None
        if long_enough:
            self.found_any = True
            return frame
        if self.found_any:
            self.merge_start = frame
        return None

    def settled_before(self, frame: int) -> int:
        """No cut before this frame is still to come, when `frame` is the next one."""
        return frame if self.merge_start is None else self.merge_start.frame

    def _end_merge(self) -> Cut | None:
        merged = self.last_above
        if merged is None or self.merge_start is None:
            return None
        if not self.min_length.met(self.merge_start, merged):
            return None
        self.merge_start = None
        return merged


@dataclass(slots=True)
class AdaptiveCuts:
    """AdaptiveDetector: a cut where the score stands out among its neighbours."""

    min_length: MinLength = field(default_factory=MinLength)
    ratio: float = 3.0
    min_score: float = 15.0
    reach: int = 2
    """Neighbours on each side."""
    last_cut: Cut | None = None
    window: deque[Cut] = field(default_factory=deque)

    def push(self, frame: Cut) -> Cut | None:
        """Take the next frame and its score; a cut is reported `reach` frames later."""
        self.last_cut = self.last_cut or frame
        self.window.append(frame)
        if len(self.window) <= 2 * self.reach:
            return None
        target = self.window[self.reach]
        others = (each.score for each in self.window if each is not target)
        neighbours = sum(others) / (2.0 * self.reach)
        self.window.popleft()
        if not (target.score >= self.min_score and self._stands_out(target.score, neighbours)):
            return None
        if not self.min_length.met(self.last_cut, target):
            return None
        self.last_cut = target
        return target

    def settled_before(self, frame: int) -> int:
        """No cut before this frame is still to come, when `frame` is the next one."""
        return max(0, frame - self.reach)

    def _stands_out(self, score: float, neighbours: float) -> bool:
        if abs(neighbours) < 0.00001:
            return True
        return min(score / neighbours, 255.0) >= self.ratio
