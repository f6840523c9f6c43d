"""How stretches of time are drawn."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from poller.cli.tables import bar, timeline

NOBODY = dict.fromkeys(("score", "track_id", "gender", "gender_score", "age", "age_group"))


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


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, ""),
        ({"attributes": {"area": 0.2}}, "area 0.2"),
        ({"track_id": 3}, "track 3"),
        (
            {
                "track_id": 3,
                "gender": "female",
                "gender_score": 0.974,
                "age": 41.6,
                "age_group": "middle",
                "attributes": {"action": "sits"},
            },
            "track 3, female 97%, age 42 (middle), action sits",
        ),
        ({"track_id": 4, "age": 12.0, "age_group": "young"}, "track 4, age 12 (young)"),
        (
            {"attributes": {"turned": {"value": "left [b]", "score": 0.8}, "cm": {"value": 172.5}}},
            "turned left [b] 80%, cm 172.5",
        ),
        ({"gender": "male", "attributes": {"action": {"value": None}}}, "male"),
    ],
)
def test_a_timeline_says_who_it_was(known: dict[str, object], said: str) -> None:
    """As far as a bundle saw it; what it did not see is not spoken of."""
    times = {"start_ms": 0, "end_ms": 1000, "event_type": "person"}
    drawn = Console(file=StringIO(), width=120)

    drawn.print(timeline("Timeline", [{**NOBODY, **times, "attributes": {}, **known}]))

    assert isinstance(drawn.file, StringIO)
    (row,) = [line for line in drawn.file.getvalue().splitlines() if "person" in line]
    assert row.split("│")[-2].strip() == said
