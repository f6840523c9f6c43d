"""Stretches of time told apart by one measurement: black, frozen, moving."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of presentation time; `value` is the interval's score."""

    start_ms: float
    end_ms: float
    value: float


@dataclass(slots=True)
class BlackIntervals:
    """The rule of FFmpeg's blackdetect (libavfilter/vf_blackdetect.c).

    Black lasts from the first black frame to the first that is not; an interval that the end of
    the video cuts off ends at the last frame, not after it.
    """

    picture_ratio: float = 0.98
    min_duration_ms: float = 2000.0
    start_ms: float | None = None
    last_ms: float = 0.0
    frames: int = 0
    ratio_sum: float = 0.0

    def push(self, pts_ms: float, black_ratio: float) -> Interval | None:
        """Take the next frame; an interval is reported at the frame that ends it."""
        ended = None
        if black_ratio >= self.picture_ratio:
            if self.start_ms is None:
                self.start_ms, self.frames, self.ratio_sum = pts_ms, 0, 0.0
            self.frames += 1
            self.ratio_sum += black_ratio
        elif self.start_ms is not None:
            ended = self._until(pts_ms)
        self.last_ms = pts_ms
        return ended

    def finish(self) -> Interval | None:
        """The interval that the end of the video cuts off, if it is long enough."""
        return self._until(self.last_ms)

    def _until(self, end_ms: float) -> Interval | None:
        start_ms, self.start_ms = self.start_ms, None
        if start_ms is None or not _reaches(end_ms - start_ms, self.min_duration_ms):
            return None
        return Interval(start_ms, end_ms, self.ratio_sum / self.frames)


@dataclass(slots=True)
class FreezeIntervals:
    """The rule of FFmpeg's freezedetect (libavfilter/vf_freezedetect.c).

    Each frame that is not frozen is the next reference. A freeze starts at its reference and ends
    at the first frame that differs from it. It counts once a frame, frozen or not, is `duration`
    after the reference: so at the end of the video the last frame's own duration does not count.
    """

    min_duration_ms: float = 2000.0
    reference_ms: float | None = None
    last_ms: float = 0.0
    largest: float = 0.0

    def push(self, pts_ms: float, difference: float, *, frozen: bool) -> Interval | None:
        """Take the next frame; an interval is reported at the frame that ends it."""
        self.last_ms = pts_ms
        if frozen:
            self.largest = max(self.largest, difference)
            return None
        ended = self._until(pts_ms, pts_ms)
        self.reference_ms, self.largest = pts_ms, 0.0
        return ended

    def leave_off(self) -> Interval | None:
        """The freeze up to the last frame; nothing is known of what follows it."""
        ended = self._until(self.last_ms, self.last_ms)
        self.reference_ms = None
        return ended

    def finish(self, end_ms: float) -> Interval | None:
        """The freeze that lasts until `end_ms`, the end of the last frame."""
        return self._until(self.last_ms, end_ms)

    def _until(self, judged_ms: float, end_ms: float) -> Interval | None:
        start_ms = self.reference_ms
        if start_ms is None or not _reaches(judged_ms - start_ms, self.min_duration_ms):
            return None
        return Interval(start_ms, end_ms, self.largest)


@dataclass(slots=True)
class MotionIntervals:
    """Activity with hysteresis: starts at `enter`, lasts while `stay`, near intervals are one.

    An interval ends at the first quiet frame. Quiet for less than `merge_ms` does not end it, and
    one shorter than `min_duration_ms` is dropped.
    """

    enter: float = 0.005
    stay: float = 0.002
    merge_ms: float = 1000.0
    min_duration_ms: float = 500.0
    start_ms: float | None = None
    quiet_ms: float | None = None
    peak: float = 0.0

    def push(self, pts_ms: float, area: float) -> Interval | None:
        """Take the next frame; an interval is reported once it has been quiet for long enough."""
        ended = None
        if self.quiet_ms is not None and pts_ms - self.quiet_ms >= self.merge_ms:
            ended = self._until(self.quiet_ms)
        active = self.start_ms is not None and self.quiet_ms is None
        moving = area >= (self.stay if active else self.enter)
        if moving:
            self.start_ms = pts_ms if self.start_ms is None else self.start_ms
            self.peak = max(self.peak, area)
            self.quiet_ms = None
        elif active:
            self.quiet_ms = pts_ms
        return ended

    def finish(self, end_ms: float) -> Interval | None:
        """The interval that lasts until `end_ms`, or that was quiet for a short while before."""
        return self._until(end_ms if self.quiet_ms is None else self.quiet_ms)

    def _until(self, end_ms: float) -> Interval | None:
        start_ms, peak = self.start_ms, self.peak
        self.start_ms, self.quiet_ms, self.peak = None, None, 0.0
        if start_ms is None or not _reaches(end_ms - start_ms, self.min_duration_ms):
            return None
        return Interval(start_ms, end_ms, peak)


def _reaches(duration_ms: float, minimum_ms: float) -> bool:
    """Compared in whole microseconds: floating point must not lose a duration of exactly 2 s."""
    return round(duration_ms * 1000) >= round(minimum_ms * 1000)
