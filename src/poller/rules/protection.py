"""ECS task scale-in protection: which call to make and when, and by when to have left.

Times are monotonic seconds. What ECS was told is a value, and so is each step from it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

EXPIRY = timedelta(hours=1)
"""How long one call protects. A worker that hangs can hold up a deployment for no longer."""
SPOT_MARGIN = timedelta(seconds=10)
"""What is left between the end of a drain and the instance's: to close, and for its clock."""
_FIRST_RETRY_SECONDS = 15.0
_LAST_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How long protection lasts, and how long it outlives the work."""

    expiry_seconds: float
    idle_seconds: float
    """Protection is kept for so long without work: a message often follows another."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What ECS was told and has said, as far as this process knows."""

    held_until: float | None = None
    """When the protection ends that ECS has agreed to."""
    may_hold_until: float | None = None
    """When the latest protection ends that was asked for, if its answer may be lost."""
    is_denied: bool = False
    """ECS wants this task gone. There is no way back."""
    failures: int = 0
    """Calls in a row that did not reach what they asked for."""
    retry_at: float = 0.0
    """No call before this, after such a failure."""


@dataclass(frozen=True, slots=True)
class Protect:
    """Ask for protection, or for more of it."""


@dataclass(frozen=True, slots=True)
class Release:
    """Tell ECS that the task may be stopped."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Make no call before `until`, unless work comes or goes; None: not at all."""

    until: float | None


Call = Protect | Release


def plan_call(
    standing: Standing, terms: Terms, *, in_flight: int, idle_since: float, now: float
) -> Call | Rest:
    """Choose the call that is due, if one is.

    Args:
        standing: what ECS was told.
        terms: how long protection lasts.
        in_flight: messages in work.
        idle_since: when the last of them ended; counts only while there are none.
        now: the time.
    """
    if standing.is_denied:
        return Rest(None)
    call: Call
    if in_flight > 0:
        call, due = Protect(), _renewal(standing, terms)
    else:
        held = max(standing.held_until or 0.0, standing.may_hold_until or 0.0)
        if held <= now:
            return Rest(None)
        call, due = Release(), idle_since + terms.idle_seconds
    due = max(due, standing.retry_at)
    return call if due <= now else Rest(due)


def _renewal(standing: Standing, terms: Terms) -> float:
    """When half of the expiry is over; at once where nothing is held."""
    if standing.held_until is None:
        return 0.0
    return standing.held_until - terms.expiry_seconds / 2


def asking(standing: Standing, call: Call, terms: Terms, now: float) -> Standing:
    """Note that a call is on its way: cut off, it may still have been carried out."""
    match call:
        case Protect():
            return replace(standing, may_hold_until=now + terms.expiry_seconds)
        case Release():
            # Whatever the answer, the protection may be gone, and new work must ask again.
            held = max(standing.held_until or 0.0, standing.may_hold_until or 0.0)
            return replace(standing, held_until=None, may_hold_until=held)
        case _:
            assert_never(call)


def agreed(call: Call, terms: Terms, asked_at: float) -> Standing:
    """ECS did as it was asked."""
    match call:
        case Protect():
            return Standing(held_until=asked_at + terms.expiry_seconds)
        case Release():
            return Standing()
        case _:
            assert_never(call)


def denied(standing: Standing) -> Standing:
    """ECS refused because it wants this task gone."""
    return replace(standing, is_denied=True, may_hold_until=None)


def refused(before: Standing, now: float) -> Standing:
    """ECS said no to a call, so that everything is as it was before it; ask again, later."""
    return _failed(before, now)


def unanswered(standing: Standing, now: float) -> Standing:
    """Nobody knows whether the call was carried out; ask again, later."""
    return _failed(standing, now)


def _failed(standing: Standing, now: float) -> Standing:
    pause = min(_FIRST_RETRY_SECONDS * 2 ** min(standing.failures, 10), _LAST_RETRY_SECONDS)
    return replace(standing, failures=standing.failures + 1, retry_at=now + pause)


def is_protected(standing: Standing, now: float) -> bool:
    """Whether ECS has agreed to protection that has not ended."""
    return standing.held_until is not None and now < standing.held_until


def plan_leaving(notice_at: datetime, now: datetime) -> timedelta:
    """How long a drain may take on an instance that goes at `notice_at`; never below zero."""
    return max(notice_at - SPOT_MARGIN - now, timedelta(0))
