"""Decides at which moment each event is shown, and which picture is whose; knows no pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.events import Event

PICTURE_SIDE = 640
"""Of the pictures of events: pixels of their longer side."""
MAX_PICTURES = 500
"""Of one video; further events have none. They are made one after the other, by decoding."""
_PICTURELESS = "decode_gap"
_ROUNDING_MS = 1.0
"""Events' times are whole milliseconds, those of frames are not."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time whose picture is wanted, and the stretch that the picture stands for."""

    at_ms: float
    from_ms: float
    to_ms: float

    @property
    def leeway(self) -> tuple[float, float]:
        """Between which times a keyframe does as well: it costs one picture to decode, not a GOP.

        That is the middle half of the stretch: at its ends it may be a crossfade.
        """
        quarter = (self.to_ms - self.from_ms) / 4
        return self.from_ms + quarter, self.to_ms - quarter

    def choose(self, pts_ms: npt.NDArray[np.float64]) -> int | None:
        """The best of the pictures shown at these times, float64 [N]; None if none will do."""
        if not len(pts_ms):
            return None
        best = int(np.argmin(np.abs(pts_ms - self.at_ms)))
        at = float(pts_ms[best])
        return best if self.from_ms - _ROUNDING_MS <= at <= self.to_ms + _ROUNDING_MS else None


def plan_moments(events: Sequence[Event]) -> dict[int, Moment]:
    """When to show each event, by its number in `events`; at most `MAX_PICTURES`, persons first.

    A person is shown where the detector was surest of it, another event about its middle.
    A `decode_gap` has nothing to show.
    """
    wanted = _showable(events)
    wanted.sort(key=lambda at: events[at].event_type != "person")
    return {at: _moment(events[at]) for at in wanted[:MAX_PICTURES]}


def count_unplanned(events: Sequence[Event]) -> int:
    """How many events have something to show, and are too many for `plan_moments`."""
    return max(0, len(_showable(events)) - MAX_PICTURES)


def _showable(events: Sequence[Event]) -> list[int]:
    return [at for at, event in enumerate(events) if event.event_type != _PICTURELESS]


def _moment(event: Event) -> Moment:
    if event.best_ms is not None:
        return Moment(event.best_ms, event.best_ms, event.best_ms)
    return Moment((event.start_ms + event.end_ms) / 2, event.start_ms, event.end_ms)
