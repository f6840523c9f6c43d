"""What `poller submit` sends is what the service understands."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poller.cli.tables import clock
from poller.rules.identity import Source
from poller.rules.message import Requests, parse_message
from poller.submission import make_announcement, make_key


@example(key="k", video_id="007")
@given(
    key=st.text(min_size=1, max_size=100),
    video_id=st.from_regex(r"[0-9a-zA-Z]{1,20}", fullmatch=True),
)
def test_announcement_is_read_back_as_it_was_meant(key: str, video_id: str) -> None:
    """Any key and any id come out of the service's reader unchanged, leading zeros included."""
    if "\x00" in key:
        key = "k"

    parsed = parse_message(make_announcement("b", key, video_id), {})

    assert isinstance(parsed, Requests)
    [video] = parsed.videos
    assert (video.bucket, video.key) == ("b", key)
    assert video.external_id is not None
    assert (video.external_id.value, video.external_id.source) == (video_id, Source.BODY)


def test_key_of_an_upload_carries_no_id() -> None:
    """The dated key of an upload is not taken for an id: the year is no video."""
    key = make_key("holiday.mp4", datetime(2025, 12, 29, tzinfo=UTC), UUID(int=7))

    parsed = parse_message(make_announcement("b", key, None), {})

    assert key == "videos/2025/12/29/00000000-0000-0000-0000-000000000007_holiday.mp4"
    assert isinstance(parsed, Requests)
    assert parsed.videos[0].external_id is None


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(0, "0:00.000"), (65_250, "1:05.250"), (3_600_000, "1:00:00.000"), (59_999.6, "1:00.000")],
)
def test_clock(milliseconds: float, shown: str) -> None:
    """Times are shown to the millisecond, with hours only where there are some."""
    assert clock(milliseconds) == shown
