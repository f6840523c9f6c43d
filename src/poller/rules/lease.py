"""Lease arithmetic: how long a claim holds and how long its message stays hidden."""

from dataclasses import dataclass
from datetime import datetime, timedelta

RECEIPT_LIFETIME = timedelta(hours=12)
"""SQS gives a receipt this much visibility in all, counted from the receive."""
MARGIN = timedelta(seconds=30)
"""The message outlives the lease by this much, so that a takeover finds the lease expired."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often to beat and for how long each beat holds."""

    lease: timedelta
    interval: timedelta

    @property
    def visibility(self) -> timedelta:
        """How long each beat hides the message."""
        return self.lease + MARGIN


def plan_visibility(wanted: timedelta, received_at: datetime, now: datetime) -> timedelta | None:
    """Bound an extension by what is left of the receipt's 12 hours; None when nothing is left."""
    left = received_at + RECEIPT_LIFETIME - now - timedelta(seconds=5)
    return min(wanted, left) if left > timedelta(0) else None


def plan_busy_wait(remaining: timedelta, jitter: float) -> timedelta:
    """Hide a message whose video another worker holds: the rest of its lease and up to 10 s."""
    return max(remaining, timedelta(0)) + timedelta(seconds=1 + 9 * jitter)
