"""Verdicts, waits and remedies."""

import inspect
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import inference.errors
import poller.errors
from inference.analyze import LEAVE_SECONDS
from inference.errors import (
    DecoderFailedError,
    DecodersUnavailableError,
    DeviceFaultError,
    VideoRejectedError,
)
from poller.errors import (
    LeaseLostError,
    PermanentError,
    RetryableError,
    SettingsError,
    SupersededError,
    UnavailableError,
)
from poller.rules.backoff import backoff
from poller.rules.failure import (
    EXPECTED,
    Abandon,
    ExpectedError,
    Fail,
    GiveBack,
    Remedy,
    Supersede,
    Tries,
    decide_remedy,
)
from poller.rules.lease import (
    BEAT_SECONDS,
    RECEIPT_LIFETIME,
    RELEASE_SECONDS,
    Schedule,
    plan_busy_wait,
    plan_visibility,
)
from poller.rules.verdict import (
    Abandoned,
    Ack,
    Busy,
    Continue,
    DeadLetter,
    Duplicate,
    Failed,
    HandedOver,
    Hide,
    Interrupted,
    Leave,
    Outcome,
    Postponed,
    Stored,
    Superseded,
    Verdict,
    decide,
)

SECOND = timedelta(seconds=1)
FAILED = Failed("too_long", "it is too long", 2)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([Stored()], Ack()),
        ([Superseded()], Ack()),
        ([Duplicate("done")], Ack()),
        ([Busy(70 * SECOND)], Hide(70 * SECOND)),
        ([Postponed(9 * SECOND, "s3_unavailable")], Hide(9 * SECOND)),
        ([Interrupted("drain")], Hide(timedelta(0))),
        ([FAILED], DeadLetter("too_long", "it is too long", 2)),
        ([Abandoned("fence")], Leave()),
        ([Stored(), FAILED, Duplicate("done")], DeadLetter("too_long", "it is too long", 2)),
        (
            [FAILED, Failed("too_large", "it is large", 3), Failed("too_long", "it is large", 1)],
            DeadLetter("too_long", "it is too long; it is large", 3),
        ),
        ([FAILED, Busy(70 * SECOND)], Hide(70 * SECOND)),
        ([Stored(), Interrupted("drain"), Busy(SECOND)], Hide(timedelta(0))),
        ([Busy(70 * SECOND), Abandoned("fence")], Leave()),
        ([Busy(70 * SECOND), HandedOver()], Continue()),
        ([HandedOver(), FAILED], Continue(DeadLetter("too_long", "it is too long", 2))),
        ([HandedOver(), Abandoned("fence")], Leave()),
    ],
)
def test_each_row_of_the_table(outcomes: list[Outcome], expected: Verdict) -> None:
    """A message is settled by its least finished video."""
    assert decide(outcomes) == expected


OUTCOMES = st.sampled_from(
    [
        Stored(),
        Superseded(),
        Duplicate("done"),
        Busy(SECOND),
        Postponed(SECOND, "s3_unavailable"),
        Interrupted("draining"),
        HandedOver(),
        FAILED,
        Abandoned("fence"),
    ]
)


@given(st.lists(OUTCOMES, min_size=1))
def test_unfinished_work_is_never_deleted(outcomes: list[Outcome]) -> None:
    """Ack and DeadLetter, the verdicts that delete, need every video to be terminal."""
    verdict = decide(outcomes)

    terminal = all(isinstance(o, Stored | Superseded | Duplicate | Failed) for o in outcomes)
    assert isinstance(verdict, Ack | DeadLetter) == terminal


@given(st.integers(-5, 1000), st.floats(0, 1))
def test_backoff_is_bounded(attempt: int, jitter: float) -> None:
    """Between a second and ten minutes, whatever comes in."""
    assert SECOND <= backoff(attempt, jitter) <= timedelta(minutes=10)


def test_backoff_doubles() -> None:
    """The ceiling doubles with each attempt."""
    assert [backoff(n, 1.0) / SECOND for n in (1, 2, 3, 9)] == [5, 10, 20, 600]


def test_ten_deliveries_of_a_duplicate_outlast_a_long_video() -> None:
    """A busy message does not use up maxReceiveCount (10) within four hours, at worst luck."""
    waits = [plan_busy_wait(90 * SECOND, count, jitter=0.0) for count in range(1, 11)]

    assert waits[0] <= 100 * SECOND
    assert sum(waits, timedelta(0)) > timedelta(hours=4)


@given(
    st.timedeltas(timedelta(0), timedelta(days=2)), st.timedeltas(timedelta(0), timedelta(days=1))
)
def test_an_extension_stays_within_twelve_hours(age: timedelta, wanted: timedelta) -> None:
    """SQS gives a receipt 12 h in all; no extension asks for more than is left."""
    now = datetime.now(UTC)

    planned = plan_visibility(wanted, now - age, now)

    assert planned is None or age + planned < RECEIPT_LIFETIME
    assert planned is not None or age > RECEIPT_LIFETIME - timedelta(minutes=1)


@given(st.floats(0, 30), st.lists(st.floats(0, 5), min_size=1), st.floats(0, 20))
def test_work_is_never_without_lease_or_message(
    first: float, lateness: list[float], poll_seconds: float
) -> None:
    """Up to and over the horizon: beats may be late, and the receive may have taken its time."""
    schedule = Schedule(90 * SECOND, 30 * SECOND)
    asked = datetime(2026, 1, 1, tzinfo=UTC)
    received = asked + poll_seconds * SECOND
    now = received + first * SECOND
    leased_until, hidden_until = now + 90 * SECOND, received + 900 * SECOND
    beats = 0

    while not schedule.is_at_horizon(asked, now):
        assert now <= min(leased_until, hidden_until)
        extension = plan_visibility(schedule.visibility, asked, now)
        assert extension == schedule.visibility
        leased_until, hidden_until = now + 90 * SECOND, now + extension
        assert hidden_until <= received + RECEIPT_LIFETIME
        now += 30 * SECOND + lateness[beats % len(lateness)] * SECOND
        beats += 1

    handed_over = now + (LEAVE_SECONDS + RELEASE_SECONDS) * SECOND
    assert handed_over <= min(leased_until, hidden_until)
    assert now - asked > timedelta(hours=11, minutes=56)


def test_a_drain_has_time_to_give_work_back() -> None:
    """Checkpoint and last beat leave a third of it; the claim and the message follow."""
    assert LEAVE_SECONDS + BEAT_SECONDS <= RELEASE_SECONDS * 2 / 3


def test_every_error_is_expected() -> None:
    """Both packages' errors end an attempt in order; only those of the start are left out."""
    errors = errors_of(inference.errors) | errors_of(poller.errors)

    assert {error for error in errors if not issubclass(error, EXPECTED)} == {SettingsError}
    assert set(EXPECTED) < errors


def errors_of(module: ModuleType) -> set[type[object]]:
    """The classes of a module that holds nothing but errors."""
    return {found for _, found in inspect.getmembers(module, inspect.isclass)}


def make_tries(attempts: int = 1, device_faults: int = 0, receive_count: int = 1) -> Tries:
    """What a video has been through; three attempts are allowed."""
    return Tries(attempts, 3, device_faults, receive_count)


@pytest.mark.parametrize(
    ("error", "tries", "expected"),
    [
        (PermanentError("too_large", "d"), make_tries(), Fail("too_large", "d")),
        (VideoRejectedError("not_a_video", "d"), make_tries(), Fail("not_a_video", "d")),
        (DecoderFailedError("decoder_timeout", "d"), make_tries(), Fail("decoder_timeout", "d")),
        (
            RetryableError("object_unreadable", "d"),
            make_tries(attempts=2, receive_count=9),
            GiveBack(10 * SECOND, "object_unreadable", "d", counted=True),
        ),
        (
            RetryableError("object_unreadable", "d"),
            make_tries(attempts=3),
            Fail("object_unreadable", "d"),
        ),
        (
            UnavailableError("s3", "d"),
            make_tries(attempts=3, receive_count=3),
            GiveBack(20 * SECOND, "s3_unavailable", "d", away="s3"),
        ),
        (
            DeviceFaultError("d", is_own=True),
            make_tries(attempts=3, device_faults=3, receive_count=9),
            GiveBack(timedelta(0), "device_fault", "d", away="device"),
        ),
        (
            DeviceFaultError("d", is_own=True),
            make_tries(device_faults=4),
            Fail("device_fault", "d"),
        ),
        (
            DeviceFaultError("d"),
            make_tries(device_faults=4),
            GiveBack(timedelta(0), "device_unavailable", "d", away="device"),
        ),
        (
            DecodersUnavailableError("d"),
            make_tries(attempts=3, device_faults=4),
            GiveBack(timedelta(0), "decoder_unavailable", "d", away="decoder"),
        ),
        (SupersededError(), make_tries(), Supersede()),
        (LeaseLostError("fence"), make_tries(), Abandon("fence")),
    ],
)
def test_each_error_has_its_remedy(error: ExpectedError, tries: Tries, expected: Remedy) -> None:
    """The group of the error decides; only a video's own faults use up its attempts."""
    assert decide_remedy(error, tries, jitter=1.0) == expected
