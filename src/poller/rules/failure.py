"""What to do about an attempt that did not end in stored results."""

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from inference.errors import DecoderFailedError, DeviceFaultError, VideoRejectedError
from poller.errors import LeaseLostError, PermanentError, SupersededError, UnavailableError
from poller.rules.backoff import backoff

ExpectedError = (
    DecoderFailedError
    | DeviceFaultError
    | VideoRejectedError
    | LeaseLostError
    | PermanentError
    | SupersededError
    | UnavailableError
)
EXPECTED = (
    DecoderFailedError,
    DeviceFaultError,
    VideoRejectedError,
    LeaseLostError,
    PermanentError,
    SupersededError,
    UnavailableError,
)
_MAX_FAULTS = 5


@dataclass(frozen=True, slots=True)
class Fail:
    """Record the failure; the video is never tried again."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Release the lease for another try after a while; the attempt is not counted."""

    after: timedelta
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class Supersede:
    """Record that the object was overwritten."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Touch nothing: the lease is somebody else's."""

    cause: str


Remedy = Fail | GiveBack | Supersede | Abandon


def decide_remedy(error: ExpectedError, receive_count: int, jitter: float) -> Remedy:
    """Decide by the group that the error belongs to.

    Args:
        error: what ended the attempt.
        receive_count: deliveries of the message so far; paces the retries of an outage, whose
            attempts are not counted in the database.
        jitter: uniform in 0..1, drawn by the caller.
    """
    match error:
        case PermanentError() | VideoRejectedError() | DecoderFailedError():
            return Fail(error.reason, error.detail)
        case UnavailableError():
            after = backoff(receive_count, jitter)
            return GiveBack(after, f"{error.system}_unavailable", error.detail)
        case DeviceFaultError() if receive_count > _MAX_FAULTS:
            # A device that fails now and then is no fault of the video; one that fails on every
            # delivery of it is, and the queue's own redrive would record no reason.
            return Fail("device_fault", str(error))
        case DeviceFaultError():
            return GiveBack(timedelta(0), "device_fault", str(error))
        case SupersededError():
            return Supersede()
        case LeaseLostError():
            return Abandon(error.cause)
        case _:
            assert_never(error)
