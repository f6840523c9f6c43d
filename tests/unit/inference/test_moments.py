"""At which moment an event is shown."""

import numpy as np
import pytest

from inference.events import Event
from inference.moments import MAX_PICTURES, Moment, count_unplanned, plan_moments


def test_when_each_event_is_shown() -> None:
    """A person where it was seen best, a gap never, anything else about its middle."""
    events = [
        Event("shot", 0, 4000),
        Event("decode_gap", 1000, 2000),
        Event("person", 500, 3500, best_ms=733.4),
    ]

    moments = plan_moments(events)

    assert moments == {0: Moment(2000, 0, 4000), 2: Moment(733.4, 733.4, 733.4)}
    assert moments[0].leeway == (1000, 3000)
    assert moments[2].leeway == (733.4, 733.4)


def test_no_more_pictures_than_are_allowed() -> None:
    """The first events have them."""
    events = [Event("motion", n, n + 1) for n in range(MAX_PICTURES + 1)]

    assert list(plan_moments(events)) == list(range(MAX_PICTURES))
    assert count_unplanned(events) == 1
    assert count_unplanned([*events[1:], Event("decode_gap", 0, 1)]) == 0


def test_persons_are_shown_before_all_else() -> None:
    """Also those that come when the pictures are used up."""
    events = [Event("motion", n, n + 1) for n in range(MAX_PICTURES)]
    events.append(Event("person", 9000, 9500, best_ms=9100.0))

    moments = plan_moments(events)

    assert MAX_PICTURES in moments
    assert len(moments) == MAX_PICTURES


@pytest.mark.parametrize(
    ("moment", "pts_ms", "chosen"),
    [
        (Moment(2000, 0, 4000), [], None),
        (Moment(2000, 0, 4000), [4800.0, 9000.0], None),
        (Moment(2000, 0, 4000), [100.0, 1500.0, 3900.0], 1),
        (Moment(733.4, 733.4, 733.4), [700.0, 733.4, 766.7], 1),
        (Moment(733.4, 733.4, 733.4), [700.0, 766.7], None),
        (Moment(50, 40, 60), [39.6, 80.0], 0),
    ],
)
def test_which_picture_is_whose(moment: Moment, pts_ms: list[float], chosen: int | None) -> None:
    """The nearest within the event; event times are rounded to milliseconds."""
    assert moment.choose(np.array(pts_ms)) == chosen
