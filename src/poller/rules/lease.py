"""Lease arithmetic: how long a claim holds and how long its message stays hidden."""

from dataclasses import dataclass
from datetime import datetime, timedelta

RECEIPT_LIFETIME = timedelta(hours=12)
"""SQS gives a receipt this much visibility in all, counted from the receive."""
MARGIN = timedelta(seconds=30)
"""The message outlives the lease by this much, so that a takeover finds the lease expired."""
RELEASE_SECONDS = 12.0
"""What a drain keeps of its time for giving work back: checkpoint, last beat, claim, message."""
BEAT_SECONDS = 4.0
"""How long a heartbeat waits for SQS, and so the end of the work for its last beat."""
_SPREAD = timedelta(seconds=10)
_MAX_SPREAD = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often to beat and for how long each beat holds."""

    lease: timedelta
    interval: timedelta

    @property
    def visibility(self) -> timedelta:
        """How long each beat hides the message."""
        return self.lease + MARGIN

    def is_at_horizon(self, received_at: datetime, now: datetime) -> bool:
        """Whether the beat after this one could no longer hide the message for that long."""
        return _left(received_at, now) < self.visibility + self.interval


def plan_visibility(wanted: timedelta, received_at: datetime, now: datetime) -> timedelta | None:
    """Bound an extension by what is left of the receipt's 12 hours; None when nothing is left."""
    left = _left(received_at, now)
    return min(wanted, left) if left > timedelta(0) else None


def _left(received_at: datetime, now: datetime) -> timedelta:
    return received_at + RECEIPT_LIFETIME - now - timedelta(seconds=5)


def plan_busy_wait(remaining: timedelta, receive_count: int, jitter: float) -> timedelta:
    """Hide a message whose video another worker holds: the rest of that lease, plus jitter.

    The holder's own message brings the video back if the holder dies, so this one need not be
    prompt. The jitter trebles with every receive: otherwise the duplicate of a long video would
    use up the queue's `maxReceiveCount` in a quarter of an hour and land in the DLQ.

    Args:
        remaining: what is left of the lease.
        receive_count: deliveries of this message so far, 1 or more.
        jitter: uniform in 0..1, drawn by the caller.
    """
    spread = min(_MAX_SPREAD, _SPREAD * int(3 ** min(max(receive_count - 1, 0), 9)))
    return max(remaining, timedelta(0)) + spread * (1 + jitter) / 2
