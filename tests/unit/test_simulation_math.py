"""CloudWatch's metric math: the examples of its guide, and what holds of any values."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.simulation.metric_math import (
    ExpressionError,
    Point,
    Reading,
    Series,
    parse_expression,
)

TERRAFORM = Path(__file__).parents[2] / "terraform"
NONE = None

points = st.one_of(st.none(), st.integers(-5, 10_000).map(float))


def evaluate(text: str, reading: Reading = Reading.GUIDE, **series: tuple[Point, ...]) -> Series:
    """Read and evaluate."""
    return parse_expression(text).evaluate(series, reading)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(one < two)", (0, 0, 1, 0)),
        ("(one >= 30)", (1, 0, 0, 0)),
        ("(one > 15 AND two > 15)", (1, 0, 0, 0)),
    ],
)
def test_the_guides_table_of_comparisons(text: str, expected: Series) -> None:
    """A value that one of two series lacks is taken as 0."""
    series: dict[str, Series] = {"one": (30.0, 20.0, 0.0, 0.0), "two": (20.0, NONE, 20.0, NONE)}

    assert parse_expression(text).evaluate(series) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IF(one, two, three)", (30, 0, 20, NONE, NONE)),
        ("IF(one, 5, three)", (5, 5, 20, NONE, NONE)),
        ("IF(one, two, 5)", (30, 0, 5, 5, NONE)),
        ("IF(one, two)", (30, 0, NONE, NONE, NONE)),
    ],
)
def test_the_guides_tables_of_if(text: str, expected: Series) -> None:
    """Dropped where the condition is missing; 0 where it is true and there is nothing to take."""
    series: dict[str, Series] = {
        "one": (1.0, 1.0, 0.0, 0.0, NONE),
        "two": (30.0, NONE, 0.0, 0.0, 30.0),
        "three": (0.0, 0.0, 20.0, NONE, 20.0),
    }

    assert parse_expression(text).evaluate(series) == expected


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading.GUIDE, (3, 1, NONE)),
        (Reading.ZERO, (3, 1, NONE)),
        (Reading.ABSENT, (3, NONE, NONE)),
    ],
)
def test_a_sum_of_two_series(reading: Reading, expected: Series) -> None:
    """The readings differ where one of the two is missing."""
    assert evaluate("one + two", reading, one=(1.0, 1.0, NONE), two=(2.0, NONE, NONE)) == expected


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading.GUIDE, (1, NONE)),
        (Reading.ZERO, (1, 1)),
        (Reading.ABSENT, (1, NONE)),
    ],
)
def test_a_missing_value_and_a_number(reading: Reading, expected: Series) -> None:
    """The readings differ here too: a number lends no timestamp to a series."""
    assert evaluate("one < 1", reading, one=(0.0, NONE)) == expected


@pytest.mark.parametrize("text", ["one / two", "one / (two * 0 + 0)", "0 / two"])
@pytest.mark.parametrize("reading", Reading)
def test_what_would_divide_by_zero_is_dropped(text: str, reading: Reading) -> None:
    """0/0 as well."""
    assert evaluate(text, reading, one=(0.0, 5.0), two=(0.0, 0.0)) == (NONE, NONE)


def test_operators_bind_as_usual() -> None:
    """Products before sums, sums before comparisons, AND before OR, from the left."""
    assert evaluate("10 - 2 - 3 * m / 2", m=(2.0,)) == (5,)
    assert evaluate("-m + 1 < 0 OR 1 < 0 AND 1 < 0", m=(2.0,)) == (1,)
    assert evaluate("(1 + m) * -2", m=(2.0,)) == (-6,)
    assert evaluate("m == 2 AND m != 3 AND m <= 2", m=(2.0,)) == (1,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one +",
        "(one",
        "one)",
        "IF(one)",
        "FILL(one)",
        "one $ two",
        "LOG(one)",
        "one two",
        "One",
    ],
)
def test_what_is_not_known_is_refused(text: str) -> None:
    """Rather than read as something else."""
    with pytest.raises(ExpressionError):
        parse_expression(text)


@given(st.lists(points, min_size=1, max_size=5), st.integers(-3, 3), st.sampled_from(Reading))
def test_fill_leaves_no_gap(values: list[Point], filler: int, reading: Reading) -> None:
    """And changes nothing else."""
    filled = evaluate(f"FILL(m, {filler})", reading, m=tuple(values))

    assert filled == tuple(float(filler) if value is None else value for value in values)


@given(st.lists(st.tuples(points, points), min_size=1, max_size=6))
def test_periods_do_not_mix(rows: list[tuple[Point, Point]]) -> None:
    """A value comes of the values of its own period alone."""
    text = "IF(one < 3 OR two > one, one / two, FILL(one, 7) - two * 2)"
    one, two = (tuple(row[side] for row in rows) for side in (0, 1))

    together = evaluate(text, one=one, two=two)

    apart = [evaluate(text, one=(a,), two=(b,))[0] for a, b in rows]
    assert list(together) == apart


def test_every_expression_of_terraform_is_read() -> None:
    """So none of them has a misspelt function or a metric that its alarm does not fetch."""
    text = (TERRAFORM / "modules/alarms/main.tf").read_text("utf-8")
    found = re.findall(r'uses\s*= \[(.*?)\],\s*expression = "(.*?)"', text)

    assert len(found) >= 6
    for uses, expression in found:
        assert parse_expression(expression).names == set(re.findall(r'"(\w+)"', uses)), expression
