"""What scaling makes of metrics: the table of the cases that matter, and what holds of all."""

import json
import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.errors import SettingsError
from poller.simulation.metric_math import Point, Reading
from poller.simulation.policy import (
    Datum,
    Scaler,
    Terms,
    is_breached,
    parse_policy,
    shipped_policy,
)

TERRAFORM = Path(__file__).parents[2] / "terraform"
POLICY = shipped_policy(Terms())
NONE = None
NO_DATA = Datum(NONE, NONE, NONE)

counts = st.one_of(st.none(), st.integers(0, 3000).map(float))
data = st.builds(Datum, counts, counts, st.one_of(st.none(), st.integers(0, 4).map(float)))


def at(datum: Datum, name: str, reading: Reading) -> Point:
    """What an expression says of one period."""
    expression = {
        "backlog": POLICY.backlog_per_task,
        "wake": POLICY.wake,
        "quiet": POLICY.quiet,
    }[name]
    series = {key: (value,) for key, value in datum._asdict().items()}
    return expression.evaluate(series, reading)[0]


@pytest.mark.parametrize("reading", Reading)
@pytest.mark.parametrize(
    ("case", "datum", "backlog", "wake", "quiet"),
    [
        ("no data", NO_DATA, NONE, NONE, NONE),
        ("nothing to do, no task: 0/0", Datum(0, 0, 0), 0.001, 0, 0),
        ("nothing to do, no task, and ECS is silent", Datum(0, 0, NONE), NONE, 0, 0),
        ("one message, no task", Datum(1, 0, 0), 1, 1, 1),
        ("one message, no task, and ECS is silent", Datum(1, 0, NONE), NONE, 1, 1),
        ("in flight only", Datum(0, 3, 1), 3, 0, 3),
        ("in flight only, while ECS lags", Datum(0, 3, NONE), NONE, 0, 3),
        ("1,000 messages, no task", Datum(1000, 0, 0), 1000, 1000, 1000),
        ("1,000 messages, four tasks", Datum(984, 16, 4), 250, 0, 1000),
        ("work, while ECS lags", Datum(984, 16, NONE), NONE, 0, 1000),
        ("work, and no task is wanted any more", Datum(996, 4, 0), 1000, 996, 1000),
        ("in flight only, and no task is wanted any more", Datum(0, 4, 0), 4, 0, 4),
        ("nothing to do, four tasks", Datum(0, 0, 4), 0.00025, 0, 0),
        ("visible lags", Datum(NONE, 0, 1), NONE, NONE, NONE),
        ("visible lags, no task", Datum(NONE, 0, 0), NONE, NONE, NONE),
        ("in flight lags", Datum(0, NONE, 1), NONE, 0, NONE),
        ("SQS is silent", Datum(NONE, NONE, 2), NONE, NONE, NONE),
    ],
)
def test_the_expressions(
    case: str, datum: Datum, backlog: Point, wake: Point, quiet: Point, reading: Reading
) -> None:
    """Whatever CloudWatch makes of a missing value, each expression says the same."""
    assert case
    assert at(datum, "backlog", reading) == backlog
    assert at(datum, "wake", reading) == wake
    assert at(datum, "quiet", reading) == quiet


@given(data, st.sampled_from(Reading))
def test_a_missing_count_of_messages_is_never_quiet(datum: Datum, reading: Reading) -> None:
    """Quiet is what was counted: nothing visible, and nothing in flight."""
    is_quiet = at(datum, "quiet", reading) == 0

    assert is_quiet == (datum.visible == 0 and datum.in_flight == 0)


@given(data)
def test_the_readings_agree(datum: Datum) -> None:
    """So that what is open in CloudWatch's guide decides nothing here."""
    for name in ("backlog", "wake", "quiet"):
        assert len({at(datum, name, reading) for reading in Reading}) == 1


@given(data, st.sampled_from(Reading))
def test_tracking_alone_never_stops_the_last_task(datum: Datum, reading: Reading) -> None:
    """How long nothing must be to do is `quiet_seconds`, and not tracking's own quarter hour."""
    backlog = at(datum, "backlog", reading)

    assert backlog is None or backlog > 0


@given(st.lists(data, min_size=20, max_size=60), st.integers(0, 4), st.integers(0, 1))
def test_never_more_than_the_most_nor_fewer_than_the_least(
    metrics: list[Datum], desired: int, least: int
) -> None:
    """Whatever the metrics say, minute by minute."""
    scaler = Scaler(POLICY)

    for minute in range(len(metrics)):
        window = metrics[max(0, minute - POLICY.window) : minute + 1]
        desired = scaler.decide(minute * 60.0, window, desired, least)
        assert least <= desired <= POLICY.terms.max_tasks


@given(st.lists(data, min_size=20, max_size=60))
def test_none_only_after_a_quiet_window(metrics: list[Datum]) -> None:
    """The fifteen newest counts that there are were all of nothing."""
    scaler = Scaler(POLICY)
    desired = 2

    for minute in range(len(metrics)):
        window = metrics[max(0, minute - POLICY.window + 1) : minute + 1]
        after = scaler.decide(minute * 60.0, window, desired, 0)
        if after == 0 and desired > 0:
            known = [d for d in window if d.visible is not None and d.in_flight is not None]
            assert len(known) >= POLICY.quiet_periods
            assert not any(d.visible or d.in_flight for d in known[-POLICY.quiet_periods :])
        desired = after or 2


@pytest.mark.parametrize("is_counted", [True, False])
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_one_message_wakes_one_task(lag: int, is_counted: bool) -> None:
    """In the first minute in which it is known, whether or not ECS says that there is no task."""
    scaler = Scaler(POLICY)
    count = 0.0 if is_counted else None
    metrics = [Datum(0, 0, count)] * 20 + [Datum(1, 0, count)] + [NO_DATA] * lag

    assert scaler.decide(0, metrics, 0, 0) == 1


def test_a_task_that_starts_is_no_reason_for_another() -> None:
    """Although ECS has not counted it yet. One that nothing is heard of for ten minutes is."""
    scaler = Scaler(POLICY)
    metrics = [Datum(1, 0, NONE)] * 20
    desired, decided = 0, []

    for minute in range(11):
        desired = scaler.decide(minute * 60.0, metrics, desired, 0)
        decided.append(desired)

    assert decided == [1] * 10 + [2]


@given(st.integers(1, 3000), st.integers(0, 40), st.sampled_from([0, 1, 2]))
def test_work_never_stays_without_a_wanted_task(visible: int, in_flight: int, late: int) -> None:
    """A task that protected itself goes on when none is wanted, and hides no message behind it.

    The newest minutes have their messages, but not yet their tasks.
    """
    scaler = Scaler(POLICY)
    metrics = [Datum(visible, in_flight, 0)] * 20 + [Datum(visible, 4, NONE)] * late

    assert scaler.decide(0, metrics, 0, 0) == 1


def test_busy_tasks_whose_count_lags_wake_nobody() -> None:
    """The count of tasks is filled with 0, but what is in flight shows that there are some."""
    scaler = Scaler(POLICY)
    metrics = [Datum(3, 4, NONE)] * 20

    assert [scaler.decide(minute * 60.0, metrics, 1, 0) for minute in range(20)] == [1] * 20


def test_a_backlog_is_answered_in_proportion() -> None:
    """25 for one task, ten are the target: three tasks; and not twice while it is new."""
    scaler = Scaler(POLICY)
    metrics = [Datum(21, 4, 1)] * 20

    decided = [scaler.decide(0, metrics, 1, 0), scaler.decide(60, metrics, 3, 0)]

    assert decided == [3, 3]


def test_three_minutes_above_the_target_are_wanted() -> None:
    """Two are chance."""
    metrics = [Datum(5, 4, 1)] * 18 + [Datum(26, 4, 1)] * 2

    assert Scaler(POLICY).decide(0, metrics, 1, 0) == 1


def test_fewer_tasks_after_fifteen_minutes_and_one_step_in_five() -> None:
    """And never fewer than the backlog wants."""
    scaler = Scaler(POLICY)
    metrics = [Datum(0, 8, 4)] * 20

    decided = [scaler.decide(minute * 60.0, metrics, 4, 0) for minute in range(6)]

    assert decided == [1, 4, 4, 4, 4, 1]
    assert Scaler(POLICY).decide(0, metrics[:14], 4, 0) == 4


@pytest.mark.parametrize(("share", "wanted"), [(0.95, 20), (0.85, 17)])
def test_a_little_below_the_target_is_left_alone(share: float, wanted: int) -> None:
    """Twenty tasks are nineteen only once a tenth of the work is missing."""
    policy = shipped_policy(Terms(max_tasks=20))
    metrics = [Datum(share * policy.target * 20, 0, 20)] * 20

    assert Scaler(policy).decide(0, metrics, 20, 0) == wanted


def test_after_going_to_sleep_nobody_is_sent_there_for_a_while() -> None:
    """Who wakes a task by hand has it until the cooldown is over."""
    scaler = Scaler(POLICY)
    metrics = [Datum(0, 0, 1)] * 40
    times = (0.0, POLICY.sleep_cooldown - 1, POLICY.sleep_cooldown)

    assert [scaler.decide(now, metrics, 1, 0) for now in times] == [0, 1, 0]


def test_missing_metrics_change_nothing() -> None:
    """Neither up nor down, however long."""
    scaler = Scaler(POLICY)

    decided = [scaler.decide(minute * 60.0, [NO_DATA] * 30, 3, 0) for minute in range(60)]

    assert set(decided) == {3}


def test_a_long_quiet_window_is_kept_to_its_end() -> None:
    """An hour of nothing, of which tracking alone would wait a quarter."""
    policy = shipped_policy(Terms(quiet_seconds=3600))
    scaler = Scaler(policy)
    desired, gone_at = 2, 0

    for minute in range(1, 90):
        desired = scaler.decide(minute * 60.0, [Datum(0, 0, 2)] * minute, desired, 0)
        gone_at = gone_at or (minute if desired == 0 else 0)

    assert gone_at == 60


@given(
    st.lists(st.one_of(st.none(), st.booleans().map(float)), max_size=12),
    st.integers(1, 6),
)
def test_an_alarm_looks_at_the_newest_values_that_there_are(
    values: list[Point], periods: int
) -> None:
    """At most two periods further back than it must; and with too few it is silent."""
    present = [value for value in values[-(periods + 2) :] if value is not None]

    rings = is_breached(values, periods, lambda value: value > 0)
    rings_once = is_breached(values, periods, lambda value: value > 0, 1)

    assert rings == (present[-periods:] == [1.0] * periods)
    assert rings_once == (1.0 in present[-periods:])


# --- one source of truth ---


def test_what_an_owner_decides_is_as_terraform_has_it() -> None:
    """The defaults of the simulation are those of the whole."""
    text = (TERRAFORM / "modules/stack/variables.tf").read_text("utf-8")

    for field in fields(Terms):
        found = re.search(rf'variable "{field.name}" \{{.*?default +=[ ]*(\S+)\n', text, re.DOTALL)
        assert found is not None
        assert float(found[1]) == field.default, field.name


def test_terraform_reads_the_same_file() -> None:
    """`deploy/ecs/scaling.json` is the package's file and no copy."""
    here = TERRAFORM.parent / "deploy" / "ecs" / "scaling.json"
    module = (TERRAFORM / "modules/scaling/main.tf").read_text("utf-8")

    assert here.is_symlink()
    assert here.samefile(Path(str(files("poller.simulation").joinpath("scaling.json"))))
    assert 'jsondecode(file("${path.module}/../../../deploy/ecs/scaling.json"))' in module


def test_terraform_uses_every_number_of_it() -> None:
    """A number that is only simulated would be an invention."""
    document = json.loads(files("poller.simulation").joinpath("scaling.json").read_text("utf-8"))
    module = (TERRAFORM / "modules/scaling/main.tf").read_text("utf-8")
    names = [
        *(document.keys() - {"expressions"}),
        *(f"expressions.{e}" for e in document["expressions"]),
    ]

    assert [name for name in names if f"local.policy.{name}" not in module] == []


def test_what_was_applied_can_be_simulated() -> None:
    """The output of the whole, with a number that somebody changed."""
    shipped = json.loads(files("poller.simulation").joinpath("scaling.json").read_text("utf-8"))
    terms = {
        "acceptable_wait_seconds": 1800,
        "seconds_per_video": 30,
        "max_tasks": 20,
        "quiet_seconds": 600,
    }
    output = {"scaling_policy": {**shipped, **terms, "scale_in_cooldown": 700}, "queue_url": "u"}

    policy = parse_policy(json.dumps(output))

    assert policy.terms == Terms(1800, 30, 20, 600)
    assert policy.scale_in_cooldown == 700
    assert policy.target == 60


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scaling_policy": null}', '"x"'])
def test_another_file_is_no_policy(text: str) -> None:
    """It is refused with one line."""
    with pytest.raises(SettingsError, match="terraform output"):
        parse_policy(text)
