"""Scaling as Terraform states it: the numbers, the alarms, and how many tasks they want.

`scaling.json` is what `terraform/modules/scaling` reads too, so there is nothing to keep in step.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Any, NamedTuple

from poller.errors import SettingsError
from poller.simulation.metric_math import Expression, Point, parse_expression

MOST_TASKS = 1000
"""The largest `max_tasks` that Terraform takes."""
_HIGH_PERIODS = 3
_LOW_PERIODS = 15
_LOW_PART = 0.9
"""What target tracking makes of a target: out after three minutes above it, in after fifteen below
nine tenths of it. The alarms that it creates say so; the Application Auto Scaling User Guide says
"usually more than 10% lower"."""
_SPARE_PERIODS = 2
"""An alarm looks further back than it must, and passes over what is missing. Source: "Configuring
how CloudWatch alarms treat missing data", Amazon CloudWatch User Guide."""


class Datum(NamedTuple):
    """What CloudWatch has of one period; None for what it does not have (yet)."""

    visible: Point
    in_flight: Point
    desired: Point


@dataclass(frozen=True, slots=True)
class Terms:
    """What an owner decides: the variables of `terraform/modules/scaling`."""

    acceptable_wait_seconds: float = 600
    seconds_per_video: float = 60
    max_tasks: int = 4
    quiet_seconds: int = 900


@dataclass(frozen=True, slots=True)
class Policy:
    """The scaling module as a value."""

    terms: Terms
    backlog_per_task: Expression
    wake: Expression
    quiet: Expression
    period_seconds: int
    scale_out_cooldown: float
    scale_in_cooldown: float
    wake_threshold: float
    wake_periods: int
    wake_adjustment: int
    wake_cooldown: float
    sleep_threshold: float
    sleep_capacity: int
    sleep_cooldown: float

    @property
    def target(self) -> float:
        """Messages that a task may have before it."""
        return self.terms.acceptable_wait_seconds / self.terms.seconds_per_video

    @property
    def quiet_periods(self) -> int:
        """For how many periods in a row nothing may be there to do before the last task goes."""
        return self.terms.quiet_seconds // self.period_seconds

    @property
    def window(self) -> int:
        """How many periods the alarms look at, at most."""
        return max(self.quiet_periods, _LOW_PERIODS) + _SPARE_PERIODS


def shipped_policy(terms: Terms) -> Policy:
    """The policy of this version, in these terms."""
    text = files("poller.simulation").joinpath("scaling.json").read_text("utf-8")
    return _make_policy(json.loads(text), terms)


def parse_policy(text: str) -> Policy:
    """The policy that was applied, from `terraform output -json stack`.

    Raises:
        SettingsError: it is something else.
    """
    try:
        document = json.loads(text)
        document = document.get("scaling_policy", document)
        terms = Terms(
            float(document["acceptable_wait_seconds"]),
            float(document["seconds_per_video"]),
            int(document["max_tasks"]),
            int(document["quiet_seconds"]),
        )
        return _make_policy(document, terms)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise SettingsError(
            [f"--policy: not what `terraform output -json stack` prints: {error}"]
        ) from error


def _make_policy(document: dict[str, Any], terms: Terms) -> Policy:
    expressions = document["expressions"]
    return Policy(
        terms=terms,
        backlog_per_task=parse_expression(expressions["backlog_per_task"]),
        wake=parse_expression(expressions["wake"]),
        quiet=parse_expression(expressions["quiet"]),
        period_seconds=int(document["period_seconds"]),
        scale_out_cooldown=float(document["scale_out_cooldown"]),
        scale_in_cooldown=float(document["scale_in_cooldown"]),
        wake_threshold=float(document["wake_threshold"]),
        wake_periods=int(document["wake_periods"]),
        wake_adjustment=int(document["wake_adjustment"]),
        wake_cooldown=float(document["wake_cooldown"]),
        sleep_threshold=float(document["sleep_threshold"]),
        sleep_capacity=int(document["sleep_capacity"]),
        sleep_cooldown=float(document["sleep_cooldown"]),
    )


def is_breached(
    values: Sequence[Point],
    periods: int,
    breaches: Callable[[float], bool],
    wanted: int | None = None,
) -> bool:
    """Whether of the newest `periods` values that there are `wanted` breach; None: all of them.

    As an alarm with `treat_missing_data = "notBreaching"`, which wants so many datapoints.
    """
    present = [value for value in values[-(periods + _SPARE_PERIODS) :] if value is not None]
    return sum(map(breaches, present[-periods:])) >= (wanted or periods)


@dataclass(slots=True)
class _Cooldown:
    """Until when an increase counts from the capacity that there was before the last one."""

    seconds: float
    until: float = 0.0
    base: int = 0

    def start_from(self, now: float, desired: int) -> int:
        return self.base if now < self.until else desired

    def begin(self, now: float, base: int) -> None:
        self.until, self.base = now + self.seconds, base


class Scaler:
    """Application Auto Scaling with the three policies, and the alarms that set them off.

    Source: "Target tracking scaling policies" (proportional, rounded up; out before in; cooldowns)
    and "Step scaling policies", Application Auto Scaling User Guide.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._out = _Cooldown(policy.scale_out_cooldown)
        self._wake = _Cooldown(policy.wake_cooldown)
        self._in_after = 0.0
        self._sleep_after = 0.0
        self._backlog = _pointwise(policy.backlog_per_task)
        self._waking = _pointwise(policy.wake)
        self._quiet = _pointwise(policy.quiet)

    def decide(self, now: float, window: Sequence[Datum], desired: int, least: int) -> int:
        """How many tasks are wanted from now on, between `least` and the most.

        Args:
            now: time in seconds; rises from call to call.
            window: what the metrics say of the latest `Policy.window` periods, oldest first.
            desired: how many were wanted until now.
            least: the minimum that the schedule sets.
        """
        most = self._policy.terms.max_tasks
        desired = min(max(desired, least), most)
        more = min(max(self._wanted_to_wake(now, window, desired), least), most)
        more = max(more, min(self._wanted_by_backlog(now, window, desired), most))
        if more > desired:
            self._in_after = now
            return more
        return max(min(self._less(now, window, desired), desired), least)

    def _wanted_to_wake(self, now: float, window: Sequence[Datum], desired: int) -> int:
        policy = self._policy
        values = [self._waking(datum) for datum in window]
        periods, threshold = policy.wake_periods, policy.wake_threshold
        if not is_breached(values, periods, lambda value: value >= threshold, 1):
            return desired
        base = self._wake.start_from(now, desired)
        wanted = base + policy.wake_adjustment
        if wanted > desired:
            self._wake.begin(now, base)
        return wanted

    def _wanted_by_backlog(self, now: float, window: Sequence[Datum], desired: int) -> int:
        policy = self._policy
        values = [self._backlog(datum) for datum in window]
        if not is_breached(values, _HIGH_PERIODS, lambda value: value > policy.target):
            return desired
        base = self._out.start_from(now, desired)
        wanted = ceil(base * _newest(values) / policy.target)
        if wanted > desired:
            self._out.begin(now, base)
        return wanted

    def _less(self, now: float, window: Sequence[Datum], desired: int) -> int:
        policy = self._policy
        quiet = [self._quiet(datum) for datum in window]
        is_quiet = is_breached(
            quiet, policy.quiet_periods, lambda value: value <= policy.sleep_threshold
        )
        if is_quiet and now >= self._sleep_after:
            self._sleep_after = now + policy.sleep_cooldown
            return policy.sleep_capacity
        values = [self._backlog(datum) for datum in window]
        low = _LOW_PART * policy.target
        if now < self._in_after or not is_breached(values, _LOW_PERIODS, lambda v: v < low):
            return desired
        wanted = ceil(desired * _newest(values) / policy.target)
        if wanted < desired:
            self._in_after = now + policy.scale_in_cooldown
        return wanted


def _newest(values: Sequence[Point]) -> float:
    return next((value for value in reversed(values) if value is not None), 0.0)


def _pointwise(expression: Expression) -> Callable[[Datum], Point]:
    """One period at a time, since periods do not mix; most minutes are like one before."""

    @cache
    def evaluate(datum: Datum) -> Point:
        series = {name: (value,) for name, value in datum._asdict().items()}
        return expression.evaluate(series)[0]

    return evaluate
