"""What to do about an attempt that did not end in stored results."""

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never, get_args

from inference.errors import (
    DecoderFailedError,
    DecodersUnavailableError,
    DeviceFaultError,
    VideoRejectedError,
)
from poller.errors import (
    HorizonError,
    LeaseLostError,
    PermanentError,
    RetryableError,
    SupersededError,
    UnavailableError,
)
from poller.rules.backoff import backoff

ExpectedError = (
    DecoderFailedError
    | DecodersUnavailableError
    | DeviceFaultError
    | VideoRejectedError
    | HorizonError
    | LeaseLostError
    | PermanentError
    | RetryableError
    | SupersededError
    | UnavailableError
)
EXPECTED: tuple[type[ExpectedError], ...] = get_args(ExpectedError)
"""The same, for `except`, which cannot take a union."""

DEVICE_FAULT = "device_fault"
_MAX_DEVICE_FAULTS = 5


@dataclass(frozen=True, slots=True)
class Tries:
    """What a video has been through so far."""

    attempts: int
    """Counted in the database; deliveries, where there was no claim yet."""
    max_attempts: int
    device_faults: int
    """How often the device failed at work on it before, since it last got further than ever."""
    receive_count: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Record the failure; the video is never tried again."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Release the lease for another try after a while."""

    after: timedelta
    cause: str
    detail: str
    away: str | None = None
    """The system that is to blame, if one is: the attempt is not counted then."""
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Supersede:
    """Record that the object was overwritten."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Release the lease at once, and let another message carry the work on."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Touch nothing: the lease is somebody else's."""

    cause: str


Remedy = Fail | GiveBack | HandOver | Supersede | Abandon


def decide_remedy(error: ExpectedError, tries: Tries, jitter: float) -> Remedy:
    """Decide by the group that the error belongs to.

    Args:
        error: what ended the attempt.
        tries: what the video has been through: this attempt included, this fault not.
        jitter: uniform in 0..1, drawn by the caller.
    """
    match error:
        case PermanentError() | VideoRejectedError() | DecoderFailedError():
            return Fail(error.reason, error.detail)
        case RetryableError():
            if tries.attempts >= tries.max_attempts:
                return Fail(error.reason, error.detail)
            return GiveBack(
                backoff(tries.attempts, jitter), error.reason, error.detail, counted=True
            )
        case UnavailableError():
            # The attempts stand still in an outage; the deliveries pace its retries.
            after = backoff(tries.receive_count, jitter)
            return GiveBack(after, f"{error.system}_unavailable", error.detail, away=error.system)
        case DecodersUnavailableError():
            return GiveBack(timedelta(0), "decoder_unavailable", str(error), away="decoder")
        case DeviceFaultError():
            return _of_device(error, tries)
        case HorizonError():
            return HandOver()
        case SupersededError():
            return Supersede()
        case LeaseLostError():
            return Abandon(error.cause)
        case _:
            assert_never(error)


def _of_device(error: DeviceFaultError, tries: Tries) -> Remedy:
    """A device that fails now and then is no fault of the video.

    One that fails at the same place of it again and again is, and the queue's own redrive would
    say no reason.
    """
    if not error.is_own:
        return GiveBack(timedelta(0), "device_unavailable", str(error), away="device")
    if tries.device_faults + 1 >= _MAX_DEVICE_FAULTS:
        return Fail(DEVICE_FAULT, str(error))
    return GiveBack(timedelta(0), DEVICE_FAULT, str(error), away="device")
