"""What `poller simulate` does with its options, and how it shows what comes of them."""

import json
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from poller.errors import SettingsError
from poller.simulation import arrivals as uploads
from poller.simulation.arrivals import Arrivals
from poller.simulation.capacity import Machines
from poller.simulation.picture import draw_svg, draw_text
from poller.simulation.policy import MOST_TASKS, Policy, Terms, parse_policy, shipped_policy
from poller.simulation.report import (
    Limit,
    Prices,
    Summary,
    find_limits,
    summarize,
    to_document,
)
from poller.simulation.run import Lags, Outcome, Run, Sample, Warm

_MOST_UPLOADS = 20_000_000
_ROWS = 5
_LATE = 0.05
"""So many may wait longer than is acceptable before it is worth a word."""
_RESTART_SECONDS = 30
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Asked:
    """The options; None for those of the policy that were not given."""

    arrivals: str
    per_hour: float
    hours: float
    burst: int
    spread: float
    acceptable_wait_seconds: float | None
    seconds_per_video: float | None
    max_tasks: int | None
    quiet_seconds: int | None
    policy: Path | None
    warm: str | None
    on_demand_base: int
    slots: int
    instance_start_seconds: float
    task_start_seconds: float
    losses_per_hour: float
    on_demand_price: float
    spot_price: float
    database_connections: int
    seed: int


def simulate(asked: Asked, *, plot: Path | None, as_json: bool) -> None:
    """Run it and show it.

    Raises:
        SettingsError: an option, a file or a line of it cannot be.
    """
    _check_finite(asked)
    if plot is not None and plot.suffix != ".svg":
        raise SettingsError([f"--plot: {plot} must end in .svg; a browser opens it"])
    policy = _read_policy(asked)
    arrivals = _make_arrivals(asked, policy.terms.seconds_per_video)
    machines = Machines(
        slots=asked.slots,
        instance_start_seconds=asked.instance_start_seconds,
        task_start_seconds=asked.task_start_seconds,
        task_restart_seconds=min(_RESTART_SECONDS, asked.task_start_seconds),
        on_demand_base=asked.on_demand_base,
        losses_per_hour=asked.losses_per_hour,
    )
    run = Run(arrivals, policy, machines, Lags(), _parse_warm(asked.warm), asked.seed)
    outcome = _watch(run, len(arrivals.times))
    summary = summarize(outcome, policy, Prices(asked.on_demand_price, asked.spot_price))
    limits = find_limits(outcome, policy, machines, asked.database_connections)
    if plot is not None:
        _write(plot, draw_svg(outcome.samples, _title(asked, summary, policy)))
    if as_json:
        print(json.dumps(to_document(summary, limits, outcome), indent=2))  # noqa: T201
    else:
        _show(_title(asked, summary, policy), outcome.samples, summary)
        rush = policy.terms.acceptable_wait_seconds
        Console().print(_limits(limits, rush), verdict(summary, limits), sep="\n", highlight=False)


def _watch(run: Run, count: int) -> Outcome:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("results", total=count)
        return run.run(lambda _now, left: progress.update(bar, completed=count - left))


# --- from options to values ---


def _read_policy(asked: Asked) -> Policy:
    policy = shipped_policy(Terms())
    if asked.policy is not None:
        policy = parse_policy(_read(asked.policy, "--policy"))
    known = policy.terms
    terms = Terms(
        _either(asked.acceptable_wait_seconds, known.acceptable_wait_seconds),
        _either(asked.seconds_per_video, known.seconds_per_video),
        _either(asked.max_tasks, known.max_tasks),
        _either(asked.quiet_seconds, known.quiet_seconds),
    )
    faults = _faults(terms)
    if faults:
        raise SettingsError(faults)
    return replace(policy, terms=terms)


def _check_finite(asked: Asked) -> None:
    numbers = {field.name: getattr(asked, field.name) for field in fields(asked)}
    endless = [
        name for name, value in numbers.items() if isinstance(value, float) and not isfinite(value)
    ]
    if endless:
        raise SettingsError([f"{name} must be a number that ends" for name in endless])


def _either(given: _Number | None, other: _Number) -> _Number:
    return other if given is None else given


def _faults(terms: Terms) -> list[str]:
    """What Terraform would refuse, so that nothing is tried out that cannot be applied."""
    faults = []
    if not terms.seconds_per_video > 0:
        faults.append("--seconds-per-video must be above 0")
    if not terms.acceptable_wait_seconds >= terms.seconds_per_video:
        faults.append(
            "--acceptable-wait must be at least --seconds-per-video: no number of tasks makes"
            " one video quicker"
        )
    if not 1 <= terms.max_tasks <= MOST_TASKS:
        faults.append(f"--max-tasks must be 1 to {MOST_TASKS}")
    if not 300 <= terms.quiet_seconds <= 86400 or terms.quiet_seconds % 60:
        faults.append("--quiet must be 300 to 86400 and whole minutes")
    return faults


def _make_arrivals(asked: Asked, mean: float) -> Arrivals:
    rng = np.random.default_rng(asked.seed)
    seconds = asked.hours * uploads.HOUR_SECONDS
    if asked.per_hour * asked.hours + asked.burst > _MOST_UPLOADS:
        raise SettingsError(
            [f"more than {_MOST_UPLOADS:,} uploads take too long: lower --per-hour or --hours"]
        )
    match asked.arrivals:
        case "daily":
            times = uploads.daily(rng, asked.per_hour, seconds)
        case "constant":
            times = uploads.constant(rng, asked.per_hour, seconds)
        case "burst":
            times = uploads.burst(rng, asked.per_hour, seconds, asked.burst)
        case path if path.endswith(".csv"):
            text = _read(Path(path), "the recorded uploads")
            return uploads.parse_recorded(text, rng, mean, asked.spread)
        case other:
            raise SettingsError([f"{other} is none of daily, constant, burst and FILE.csv"])
    return Arrivals(times, uploads.spread_work(rng, len(times), mean, asked.spread))


def _parse_warm(text: str | None) -> Warm | None:
    if text is None:
        return None
    start, _, end = text.partition("-")
    try:
        warm = Warm(float(start), float(end))
    except ValueError as error:
        raise SettingsError([f"--warm: {text} is not of the form 7-19"]) from error
    if not 0 <= warm.from_hour < warm.to_hour <= 24:
        raise SettingsError([f"--warm: {text} must be two hours of one day, the first one first"])
    return warm


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{what}: {path} cannot be read: {error}"]) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise SettingsError([f"--plot: {path} cannot be written: {error}"]) from error


# --- what is shown ---


def _title(asked: Asked, summary: Summary, policy: Policy) -> str:
    terms = policy.terms
    return (
        f"{summary.uploads:,} uploads ({asked.arrivals}), {terms.seconds_per_video:g} s each;"
        f" at most {terms.max_tasks} tasks, {policy.target:g} messages for each"
    )


def _show(title: str, samples: list[Sample], summary: Summary) -> None:
    console = Console()
    console.print(title, style="bold", highlight=False)
    console.print(_numbers(summary))
    width = min(console.width, 120) - 2
    _chart(console, "instances", [float(s.instances) for s in samples], width)
    _chart(console, "messages waiting", [float(s.visible) for s in samples], width)
    hours = samples[-1].hour
    console.print(f"0 h{f'{hours:,.0f} h':>{width - 3}}", style="dim", highlight=False)


def verdict(summary: Summary, limits: list[Limit]) -> str:
    """What keeps videos waiting longer than is acceptable, a line for each thing."""
    late = 1 - summary.in_time
    short = [x for x in limits if x.share > 1 and (late > _LATE or not x.is_simulated)]
    if short:
        return "\n".join(
            f"Too little: {limit.name}: {limit.used:,.0f} needed, {limit.most:,.0f} there;"
            f" {limit.advice}."
            for limit in short
        )
    if late <= _LATE:
        some = f" {late:.1%} of the videos wait longer than is acceptable." if late else ""
        return f"Nothing is short.{some}"
    return (
        f"Nothing is short, and {late:.0%} wait longer than is acceptable: for the start of an"
        " instance and its task, and for scaling to notice. Keep a task warm (`warm`), or let"
        " videos wait longer."
    )


def _chart(console: Console, name: str, values: list[float], width: int) -> None:
    console.print(f"{name}, at most {max(values):,.0f}", style="cyan", highlight=False)
    for line in draw_text(values, width, _ROWS):
        console.print(line, highlight=False, markup=False)


def _numbers(summary: Summary) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "wait for the result, median": _duration(summary.wait_p50),
        "95 of 100 within": _duration(summary.wait_p95),
        "99 of 100 within": _duration(summary.wait_p99),
        "longest": _duration(summary.wait_longest),
        "no longer than is acceptable": f"{summary.in_time:.1%}",
        "GPU hours, spot": f"{summary.spot_hours:,.1f}",
        "GPU hours, on demand": f"{summary.on_demand_hours:,.1f}",
        "of these busy": f"{summary.busy:.0%}",
        "dollars for instances": f"{summary.dollars:,.2f}",
        "dollars for an upload": f"{summary.dollars_per_upload:,.4f}",
        "instances started": f"{summary.instance_starts:,}",
        "spot instances lost": f"{summary.spot_losses:,}",
    }
    if summary.unfinished:
        rows["without a result after 60 days"] = f"{summary.unfinished:,}"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _limits(limits: list[Limit], rush_seconds: float) -> Table:
    title = f"What is needed in the busiest {_duration(rush_seconds)}, as long as a video may wait"
    table = Table(title=title, title_justify="left")
    table.add_column("of")
    for name in ("needed", "there", "share"):
        table.add_column(name, justify="right")
    table.add_column("if it is not enough")
    for limit in limits:
        style = "red" if limit.share > 1 else None
        used, most = f"{limit.used:,.3g}", f"{limit.most:,.0f}"
        used = f"{limit.used:,.0f}" if limit.used >= 10 else used
        table.add_row(limit.name, used, most, f"{limit.share:.0%}", limit.advice, style=style)
    return table


def _duration(seconds: float) -> str:
    if np.isnan(seconds):
        return "none"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
