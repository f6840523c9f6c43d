"""When a video that stands still is announced again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.rules.resend import is_due

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("waited", "resent", "expected"),
    [
        (HOUR - timedelta(seconds=1), None, False),
        (HOUR, None, True),
        (HOUR, -HOUR, True),  # before somebody took it up and left it again
        (HOUR, timedelta(0), True),
        (2 * HOUR, HOUR, True),
        (2 * HOUR - timedelta(seconds=1), HOUR, False),
        (5 * HOUR, 3 * HOUR, False),
        (6 * HOUR, 3 * HOUR, True),
    ],
)
def test_when_it_is_due(waited: timedelta, resent: timedelta | None, *, expected: bool) -> None:
    """After an hour, and again whenever the wait has doubled since; anew after each claim."""
    resent_at = None if resent is None else SINCE + resent

    assert is_due(SINCE, resent_at, SINCE + waited, HOUR) == expected


@given(st.integers(min_value=1, max_value=24 * 14), st.integers(min_value=1, max_value=180))
def test_there_is_no_storm(hours: int, period_minutes: int) -> None:
    """However often it is looked at, a fortnight of standing still costs ten announcements."""
    resent_at, sent = None, 0
    for minutes in range(0, hours * 60, period_minutes):
        now = SINCE + timedelta(minutes=minutes)
        if is_due(SINCE, resent_at, now, HOUR):
            resent_at, sent = now, sent + 1

    assert sent <= 9
