"""The simulation beside what queueing theory knows exactly, and what holds of any run."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.errors import SettingsError
from poller.simulation.arrivals import (
    Arrivals,
    Floats,
    burst,
    constant,
    daily,
    parse_recorded,
    spread_work,
)
from poller.simulation.capacity import Bill, Machines
from poller.simulation.picture import draw_svg, draw_text
from poller.simulation.policy import Terms, shipped_policy
from poller.simulation.report import Prices, find_limits, summarize, to_document
from poller.simulation.run import Lags, Outcome, Run, Warm

DAY = 86400.0
USUAL = Machines()
DEFAULTS = Terms()
READY = Machines(
    instance_start_seconds=0, task_start_seconds=0, task_restart_seconds=0, losses_per_hour=0
)
"""Tasks that are there at once and stay."""


def simulate(
    times: Floats,
    work: Floats,
    machines: Machines = USUAL,
    terms: Terms = DEFAULTS,
    warm: Warm | None = None,
    seed: int = 1,
) -> Outcome:
    """Run to the end."""
    return Run(Arrivals(times, work), shipped_policy(terms), machines, Lags(), warm, seed).run()


def simulate_station(servers: int, slots: int, rate: float, work: Floats) -> float:
    """The mean time in a system of `servers` tasks that are always there, s."""
    rng = np.random.default_rng(7)
    times = 3600 + np.cumsum(rng.exponential(1 / rate, len(work)))
    outcome = simulate(
        times,
        work,
        replace(READY, slots=slots, max_step=servers),
        Terms(acceptable_wait_seconds=1e9, max_tasks=servers, seconds_per_video=1),
        Warm(0, 24, tasks=servers, days=7),
    )
    return float(outcome.waits.mean())


# --- closed forms ---


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_one_server_and_equal_work(load: float) -> None:
    """M/D/1, by Pollaczek and Khinchine: the mean wait is S * load / (2 * (1 - load))."""
    mean = simulate_station(1, 1, load / 10, np.full(30_000, 10.0))

    assert mean == pytest.approx(10 + 10 * load / (2 * (1 - load)), rel=0.05)


def test_three_servers_and_exponential_work() -> None:
    """M/M/3, by Erlang's C: of 2.1 Erlang 0.4923 wait, on average S / (3 - 2.1)."""
    rng = np.random.default_rng(11)
    offered, servers, seconds = 2.1, 3, 10.0
    busy = offered**servers / 6 / (1 - offered / servers)
    waiting = busy / (sum(offered**n / f for n, f in enumerate((1, 1, 2))) + busy)

    mean = simulate_station(servers, 1, offered / seconds, rng.exponential(seconds, 30_000))

    assert waiting == pytest.approx(0.4923, abs=1e-3)
    assert mean == pytest.approx(seconds + waiting * seconds / (servers - offered), rel=0.05)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_shared_server_does_not_care_how_unlike_the_work_is(spread: float) -> None:
    """M/G/1 with processor sharing: the mean time is S / (1 - load), whatever the spread."""
    work = spread_work(np.random.default_rng(5), 60_000, 10.0, spread)

    mean = simulate_station(1, 64, 0.06, work)

    assert mean == pytest.approx(10 / (1 - 0.6), rel=0.05)


def test_as_many_are_there_as_come_in_the_time_that_they_stay() -> None:
    """Little's law, over a day with scaling: the mean number is the rate times the mean wait."""
    rng = np.random.default_rng(2)
    times = constant(rng, 120, DAY)

    outcome = simulate(times, spread_work(rng, len(times), 60, 0.5))

    present = np.mean([s.visible + s.in_flight for s in outcome.samples])
    rate = len(times) / outcome.seconds
    assert present == pytest.approx(rate * outcome.waits.mean(), rel=0.05)


# --- from none to the first task ---


def test_a_burst_is_tracked_from_the_first_task_on() -> None:
    """Until one runs, ECS counts none, and there is nothing to divide the messages by."""
    outcome = simulate(np.full(1000, 600.0), np.full(1000, 60.0), terms=Terms(max_tasks=20))

    before = [s.desired for s in outcome.samples if s.visible and not s.tasks]
    assert set(before) == {0, 1}
    assert max(sample.desired for sample in outcome.samples) == 20


def test_an_instance_that_cannot_be_had_is_asked_for_again() -> None:
    """Every ten minutes, because nothing is known of the task that waits for it."""
    slow = replace(USUAL, instance_start_seconds=3600)

    outcome = simulate(np.array([600.0]), np.array([60.0]), slow, Terms(max_tasks=20))

    wanted = [s.desired for s in outcome.samples if s.visible and s.desired]
    assert wanted == [1 + minute // 10 for minute in range(len(wanted))]
    assert outcome.unfinished == 0


# --- any run ---


runs = st.tuples(
    st.lists(st.floats(0, 9000), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([0.0, 1.0, 8.0]),
    st.integers(0, 3),
)


@given(runs)
@settings(max_examples=30)
def test_every_upload_gets_its_result(
    run: tuple[list[float], int, int, float, int],
) -> None:
    """Also while instances are lost; no sooner than its work takes, and never past the most."""
    uploads, max_tasks, slots, losses, seed = run
    times = np.sort(np.array(uploads))

    outcome = simulate(
        times,
        np.full(len(times), 60.0),
        Machines(slots=slots, losses_per_hour=losses),
        Terms(max_tasks=max_tasks),
        seed=seed,
    )

    assert outcome.unfinished == 0
    assert outcome.waits.min() >= 60 - 1e-6
    assert all(s.tasks <= max_tasks and s.desired <= max_tasks for s in outcome.samples)
    assert all(s.instances <= max_tasks for s in outcome.samples)
    assert outcome.samples[-1].instances == 0
    assert outcome.bill.busy_seconds >= 60 * len(times) - 1e-3


@given(st.integers(0, 100))
@settings(max_examples=5)
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    """To the last digit."""
    rng = np.random.default_rng(seed)
    times = constant(rng, 60, 6 * 3600)
    work = spread_work(rng, len(times), 60, 0.5)
    machines = Machines(losses_per_hour=2)

    one, two = (simulate(times, work, machines, seed=seed) for _ in range(2))

    assert np.array_equal(one.waits, two.waits)
    assert one.samples == two.samples
    assert one.bill == two.bill


def test_work_without_losses_is_done_once() -> None:
    """What tasks were busy with is exactly what was to be done."""
    rng = np.random.default_rng(4)
    times = constant(rng, 300, 12 * 3600)
    work = spread_work(rng, len(times), 60, 1)

    outcome = simulate(times, work, Machines(losses_per_hour=0))

    assert outcome.bill.busy_seconds == pytest.approx(work.sum())
    assert outcome.bill.losses == 0


def test_a_lost_instance_costs_time_and_no_video() -> None:
    """What it was doing is done elsewhere, part of it again."""
    times = np.array([0.0])
    calm = simulate(times, np.array([20_000.0]), Machines(losses_per_hour=0))

    outcome = simulate(times, np.array([20_000.0]), Machines(losses_per_hour=1), seed=3)

    assert outcome.bill.losses > 0
    assert outcome.waits[0] > calm.waits[0]
    redone = outcome.bill.busy_seconds - 20_000
    assert 30 - 1e-6 <= redone <= 30 * outcome.bill.losses + 1e-6


def test_an_instance_on_demand_is_never_lost() -> None:
    """Whatever the base covers is paid as such."""
    machines = Machines(losses_per_hour=10, on_demand_base=1)

    outcome = simulate(np.array([0.0]), np.array([20_000.0]), machines, Terms(max_tasks=1))

    assert outcome.bill.losses == 0
    assert outcome.bill.spot_seconds == 0
    assert outcome.bill.on_demand_seconds > 20_000


def test_the_first_message_waits_for_metric_instance_and_task() -> None:
    """A minute until it is known, three and two for the starts, and its work; once."""
    outcome = simulate(np.array([3600.0]), np.array([60.0]), Machines(losses_per_hour=0))

    assert outcome.waits[0] == pytest.approx(60 + 180 + 120 + 60)
    assert outcome.bill.starts == 1


def test_what_comes_while_the_last_task_is_given_up() -> None:
    """That task takes it and so lives on, although none is wanted: it does not stay alone with it.

    The second uploads come 20 minutes after the first, about when its quiet is over.
    """
    calm = Machines(losses_per_hour=0)

    for second in range(1240, 1400, 20):
        times = np.concatenate([[0.0], np.linspace(second, second + 60, 400)])
        outcome = simulate(times, np.full(401, 60.0), calm)

        assert max(sample.tasks for sample in outcome.samples) == Terms().max_tasks


def test_a_queue_that_slept_for_long_wakes_late() -> None:
    """SQS reports nothing of it until a quarter of an hour after it was touched."""
    calm = Machines(losses_per_hour=0)
    first = simulate(np.array([3600.0]), np.array([60.0]), calm).waits[0]

    later = simulate(np.array([8 * 3600.0]), np.array([60.0]), calm).waits[0]

    assert first + 800 < later < first + 1000


def test_a_warm_task_takes_the_first_message_at_once() -> None:
    """And at the weekend there is none."""
    hours = np.array([9.0, 9.0 + 5 * 24]) * 3600

    outcome = simulate(hours, np.full(2, 60.0), Machines(losses_per_hour=0), warm=Warm(7, 19))

    assert outcome.waits[0] == pytest.approx(60)
    assert outcome.waits[1] > 300


def test_more_patience_costs_less() -> None:
    """Which is what the command is for."""
    rng = np.random.default_rng(6)
    times = daily(rng, 120, DAY)
    work = spread_work(rng, len(times), 60, 0.5)
    calm = Machines(losses_per_hour=0)

    hasty, patient = (
        summarize(simulate(times, work, calm, terms), shipped_policy(terms), Prices())
        for terms in (Terms(300), Terms(7200))
    )

    assert patient.dollars < 0.9 * hasty.dollars
    assert patient.wait_p95 > 2 * hasty.wait_p95


# --- arrivals ---


def test_a_day_has_its_rush_in_the_afternoon() -> None:
    """Nearly none at four in the morning, twice the mean at four in the afternoon."""
    hours = Counter((daily(np.random.default_rng(1), 100, 50 * DAY) % DAY // 3600).tolist())

    assert hours[4] < 0.1 * hours[16]
    assert hours[16] / 50 == pytest.approx(200, rel=0.05)
    assert hours.total() / 50 / 24 == pytest.approx(100, rel=0.05)


def test_a_burst_comes_within_a_minute() -> None:
    """Halfway, on top of what comes anyway."""
    times = burst(np.random.default_rng(1), 0, 7200, 1000)

    assert len(times) == 1000
    assert 3600 <= times[0] <= times[-1] <= 3660
    assert Arrivals(times, np.ones(1000)).busiest(61) == 1000


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_work_has_the_mean_and_spread_that_were_asked_for(spread: float) -> None:
    """Log-normal, so that none is negative."""
    work = spread_work(np.random.default_rng(1), 400_000, 60, spread)

    assert work.mean() == pytest.approx(60, rel=0.02)
    assert work.std() / 60 == pytest.approx(spread, rel=0.05, abs=1e-9)
    assert work.min() > 0


def test_recorded_uploads() -> None:
    """As Postgres writes times, out of order, with work where it is known."""
    text = (
        "arrived_at,seconds\n"
        "2025-12-29 10:00:30+00,\n"
        "2025-12-29 11:00:00+01,12.5\n"
        "2025-12-30T00:00:00Z,7\n"
    )

    recorded = parse_recorded(text, np.random.default_rng(1), 60, 0)

    assert recorded.times.tolist() == [36000, 36030, 86400]
    assert recorded.work.tolist() == [12.5, 60, 7]
    assert recorded.weekday == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "arrived_at"),
        ("time\n1\n", "arrived_at"),
        ("arrived_at\n", "no uploads"),
        ("arrived_at\n5\nyesterday\n", "line 3"),
        ("arrived_at\nnan\n", "line 2"),
        ("arrived_at\n-1\n", "line 2"),
        ("arrived_at,seconds\n1,long\n", "line 2"),
        ("arrived_at,seconds\n1,inf\n", "line 2"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, said: str) -> None:
    """With the line that is at fault."""
    with pytest.raises(SettingsError, match=said):
        parse_recorded(text, np.random.default_rng(1), 60, 0)


# --- what is said of a run ---


def test_limits_of_a_thousand_a_minute() -> None:
    """A thousand tasks; the pace of starts and connections of Postgres end first, SQS far later."""
    times = np.arange(60_000) / 60_000 * 3600
    outcome = Outcome(Arrivals(times, np.full(60_000, 60.0)), times, [], Bill(), 3600)

    limits = find_limits(outcome, shipped_policy(Terms(max_tasks=1000)), Machines(), 450)

    needed = {limit.name: limit.used for limit in limits}
    assert needed["tasks, by `max_tasks`"] == pytest.approx(1000, abs=1)
    assert needed["messages in flight"] == pytest.approx(4000, abs=4)
    assert [limit.name for limit in limits[:2]] == [
        "instances started meanwhile",
        "connections of Postgres",
    ]
    assert [limit.share for limit in limits] == sorted((x.share for x in limits), reverse=True)


@pytest.mark.parametrize(("wait_seconds", "tasks", "instances"), [(600, 100, 20), (6000, 10, 200)])
def test_the_rush_is_as_long_as_a_video_may_wait(
    wait_seconds: float, tasks: int, instances: int
) -> None:
    """A thousand minutes of work at once: who waits longer needs fewer tasks, and gets more."""
    outcome = Outcome(Arrivals(np.zeros(1000), np.full(1000, 60.0)), np.zeros(0), [], Bill(), 60)
    policy = shipped_policy(Terms(acceptable_wait_seconds=wait_seconds, max_tasks=50))

    limits = {limit.name: limit for limit in find_limits(outcome, policy, Machines(), 450)}

    starts = limits["instances started meanwhile"]
    assert (starts.used, starts.most) == (tasks, instances)
    assert limits["tasks, by `max_tasks`"].share == tasks / 50


def test_dollars_are_hours_times_their_prices() -> None:
    """Spot and on demand apart; the work's part of them is what was busy."""
    bill = Bill(spot_seconds=7200, on_demand_seconds=3600, busy_seconds=5400)
    outcome = Outcome(
        Arrivals(np.zeros(2), np.ones(2)), np.array([60.0, 700.0]), [], bill, seconds=7200
    )

    summary = summarize(outcome, shipped_policy(Terms()), Prices(on_demand=1.0, spot=0.25))

    assert (summary.spot_hours, summary.on_demand_hours) == (2, 1)
    assert summary.dollars == pytest.approx(1.5)
    assert summary.dollars_per_upload == pytest.approx(0.75)
    assert summary.busy == pytest.approx(0.5)
    assert summary.in_time == pytest.approx(0.5)


def test_no_upload_is_a_run_too() -> None:
    """Nothing is started, and nothing is said of waits."""
    outcome = simulate(np.array([]), np.array([]))
    policy = shipped_policy(Terms())

    summary = summarize(outcome, policy, Prices())

    document = to_document(summary, find_limits(outcome, policy, Machines(), 450), outcome)
    assert document["summary"]["wait_p50"] is None
    assert document["summary"]["dollars"] == 0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.integers(1, 90))
def test_a_chart_shows_all_that_is_not_nothing(values: list[float], width: int) -> None:
    """The highest value fills its column; what is above nothing leaves a mark."""
    lines = draw_text(values, width, 5)

    assert len(lines) == 5
    assert {len(line) for line in lines} == {min(width, len(values))}
    assert ("█" in lines[0]) == (max(values) > 0)
    marked = sum(column != " " for column in lines[-1])
    assert (marked > 0) == (max(values) > 0)


def test_a_drawing_is_svg() -> None:
    """That can be read, with a title that may have any signs."""
    outcome = simulate(np.array([60.0]), np.array([60.0]))

    svg = draw_svg(outcome.samples, "a < b & c")

    assert svg.startswith("<svg")
    assert "a &lt; b &amp; c" in svg
    assert svg.count("<polyline") == 4
