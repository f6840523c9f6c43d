"""What becomes of a message, decided from what became of its videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Stored:
    """The results are committed."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The object was overwritten meanwhile; its new revision has a message of its own."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The video was terminal already: `outcome` is done, failed or superseded."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker holds the lease for `remaining`."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Failed:
    """Permanently failed: never to be tried again."""

    reason: str
    detail: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """To be tried again after a while; `away` names the system to blame, if one is."""

    after: timedelta
    cause: str
    away: str | None = None


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Stopped through no fault of its own; to be taken up at once by whoever is free."""

    cause: str
    away: str | None = None


@dataclass(frozen=True, slots=True)
class HandedOver:
    """To be gone on with under another message: this one cannot be hidden any longer."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The lease was lost. Another worker may own the video: say nothing about the message."""

    cause: str


Outcome = (
    Stored
    | Superseded
    | Duplicate
    | Busy
    | Failed
    | Postponed
    | Interrupted
    | HandedOver
    | Abandoned
)


@dataclass(frozen=True, slots=True)
class Ack:
    """Delete the message."""


@dataclass(frozen=True, slots=True)
class Hide:
    """Keep the message, invisible for `after`."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class Continue:
    """Send a copy to the same queue, then delete; if a send fails, it stays.

    `letter` is for those of its videos that have failed: to the copy they will be old news.
    """

    letter: "DeadLetter | None" = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Send to the DLQ with the reason, then delete; if the send fails, the message stays."""

    reason: str
    detail: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Touch nothing; the message returns when its visibility ends."""


Verdict = Ack | Hide | Continue | DeadLetter | Leave


def decide(outcomes: Sequence[Outcome]) -> Verdict:
    """Settle a message by its videos: it is deleted only when every one of them is terminal.

    An unfinished video decides over a finished one: first a lost lease, then a hand-over, then
    the shortest wait. Among finished ones a failure decides, so that nothing fails unseen.
    """
    kinds = {type(outcome) for outcome in outcomes}
    if Abandoned in kinds:
        return Leave()
    if HandedOver in kinds:
        return Continue(_letter(outcomes))
    waits = [wait for outcome in outcomes if (wait := _wait(outcome)) is not None]
    if waits:
        return Hide(min(waits))
    return _letter(outcomes) or Ack()


def _letter(outcomes: Sequence[Outcome]) -> DeadLetter | None:
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if not failures:
        return None
    details = "; ".join(dict.fromkeys(failure.detail for failure in failures))
    return DeadLetter(failures[0].reason, details, max(failure.attempts for failure in failures))


def _wait(outcome: Outcome) -> timedelta | None:
    """How long an unfinished video wants its message hidden; None for a finished one."""
    match outcome:
        case Busy(wait) | Postponed(wait):
            return wait
        case Interrupted() | HandedOver() | Abandoned():
            return timedelta(0)
        case Stored() | Superseded() | Duplicate() | Failed():
            return None
        case _:
            assert_never(outcome)
