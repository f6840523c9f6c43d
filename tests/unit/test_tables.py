"""How stretches of time are drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.cli.tables import bar


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "whole_ms", "drawn"),
    [
        (0, 24_000, 24_000, "█" * 12),
        (6_000, 12_000, 24_000, "···███······"),
        (10_000, 10_000, 24_000, "·····█······"),
        (24_000, 24_000, 24_000, "···········█"),
        (0, 0, 0, "█" * 12),
    ],
)
def test_a_stretch_is_drawn_where_it_lies(
    start_ms: float, end_ms: float, whole_ms: float, drawn: str
) -> None:
    """In its place, as long as it lasts, and never too short to be seen."""
    assert bar(start_ms, end_ms, whole_ms) == drawn


@given(st.lists(st.integers(0, 10**8), min_size=3, max_size=3).map(sorted))
def test_every_bar_has_the_same_width(times: list[int]) -> None:
    """Whatever the times are, the column stays straight and shows something."""
    drawn = bar(*times)

    assert len(drawn) == 12
    assert drawn.strip("·").strip("█") == ""
    assert "█" in drawn
