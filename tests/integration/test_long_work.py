"""What SQS does and no emulator shows, and what a real worker then does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from tests.factories import make_application_body
from tests.integration.conftest import Systems, receive_one
from tests.integration.long_work import SCHEDULE, Clock, Worker, until, working
from tests.scripted_sqs import (
    OVER_LIMIT,
    THROTTLED,
    UNAVAILABLE,
    Call,
    Refusal,
    ScriptedSqs,
    scripted_sqs,
)

from poller import sqs
from poller.errors import HorizonError, PermanentError, UnavailableError
from poller.rules.verdict import Ack, Hide
from poller.settle import Settlement
from poller.sqs import Queue, StaleReceiptError
from poller.stages import Stages

HOUR = 3600


@pytest.fixture
async def clock(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of this test."""
    assert systems
    return Clock(monkeypatch)


@pytest.fixture
async def scripted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedSqs]:
    """This test's SQS, in which there is nothing yet."""
    async with scripted_sqs(clock.time) as queue:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", queue.url)
        yield queue


@pytest.fixture
async def plain(scripted: ScriptedSqs) -> AsyncIterator[Queue]:
    """Its queue, for arranging and for looking at what is there."""
    async with sqs.open_client(read_timeout=30, attempts=1) as client:
        yield Queue(client, scripted.queue_url())


@pytest.fixture
async def worker(systems: Systems, scripted: ScriptedSqs, clock: Clock) -> AsyncIterator[Worker]:
    """A worker at that queue."""
    await systems.upload("k", b"-")
    async with working(systems, scripted, clock) as worker:
        yield worker


async def announce(queue: Queue, bucket: str) -> str:
    """Send the message of the one video; returns its id."""
    return await queue.send(make_application_body(bucket, "k"))


def about(scripted: ScriptedSqs, message_id: str) -> list[Call]:
    """Calls with a receipt of the message, in order."""
    return [
        call
        for call in scripted.calls
        if call.message_id == message_id and "ReceiptHandle" in call.request
    ]


def assert_nothing_follows(scripted: ScriptedSqs, message_id: str) -> None:
    """No two calls about the message overlap, and none comes after it was deleted."""
    calls = about(scripted, message_id)
    for earlier, later in pairwise(calls):
        assert earlier.ended is not None
        assert earlier.ended < later.started, (earlier, later)
        assert earlier.action != "DeleteMessage"


def hidden(scripted: ScriptedSqs, message_id: str) -> list[tuple[float, float]]:
    """From when to when each call hides a message."""
    return [
        (call.at, call.at + call.request["VisibilityTimeout"])
        for action in ("ReceiveMessage", "ChangeMessageVisibility")
        for call in scripted.of(action, message_id)
    ]


def covers(spans: list[tuple[float, float]], start: float, end: float) -> bool:
    """Whether each moment from start to end is in one of the spans."""
    reached = start
    for since, until_ in sorted(spans):
        if since <= reached:
            reached = max(reached, until_)
    return reached >= end


async def test_thirteen_hours(
    worker: Worker, scripted: ScriptedSqs, plain: Queue, systems: Systems
) -> None:
    """There is no moment at which work runs without a lease, or beside a visible message.

    Nothing is asked of SQS that it refuses, and the copy is there before the original is deleted.
    """
    first = await announce(plain, systems.bucket)
    await worker.works()
    await worker.pass_time(13 * HOUR)
    (second,) = scripted.messages()
    worker.end()
    await until(lambda: scripted.messages() == [])

    ran = worker.pipeline.ran
    assert sum(end - start for start, end in ran) > 12.9 * HOUR
    assert [covers(worker.leases, *span) for span in ran] == [True, True]
    assert covers(hidden(scripted, first), *ran[0])
    assert covers(hidden(scripted, second), *ran[1])
    assert [call.refusal for call in scripted.calls if call.refusal] == []
    (deleted,), (_, copied) = scripted.of("DeleteMessage", first), scripted.of("SendMessage")
    assert copied.request["MessageBody"] == make_application_body(systems.bucket, "k")
    assert copied.ended is not None
    assert copied.ended < deleted.started
    assert_nothing_follows(scripted, first)
    assert_nothing_follows(scripted, second)


async def test_a_wait_is_bounded_by_what_is_left(
    scripted: ScriptedSqs, plain: Queue, clock: Clock
) -> None:
    """A delivery of eleven hours gets no more than the twelfth; SQS would refuse it all."""
    await plain.send("work")
    message = await receive_one(plain, visibility_seconds=12 * HOUR)
    clock.ahead += 11 * HOUR

    with pytest.raises(StaleReceiptError, match="beyond the limit"):
        await plain.hide(message, timedelta(hours=2))
    await Settlement(plain, plain).apply(message, Hide(timedelta(hours=2)), Stages(), [])

    *_, last = scripted.of("ChangeMessageVisibility")
    assert last.took_effect
    assert HOUR - 60 < last.request["VisibilityTimeout"] <= HOUR


async def test_a_lost_receipt(
    worker: Worker, scripted: ScriptedSqs, clock: Clock, plain: Queue, systems: Systems
) -> None:
    """The work goes on, its message is deleted by the delivery that finds it done, and only then.

    SQS says yes to a deletion by a receipt that is over, and deletes nothing.
    """
    message = await announce(plain, systems.bucket)
    await worker.works()
    scripted.redeliver(message)
    async with working(systems, scripted, clock):  # finds it busy
        await until(lambda: len(scripted.of("ChangeMessageVisibility", message)) == 2)
    beats = len(worker.leases)
    await worker.pass_time(2 * SCHEDULE.interval.total_seconds())
    worker.end()
    await until(lambda: len(scripted.of("DeleteMessage", message)) == 1)
    kept = scripted.messages()
    scripted.redeliver(message)
    await until(lambda: scripted.messages() == [])

    assert len(worker.leases) >= beats + 2
    assert kept == [message]
    assert [call.took_effect for call in scripted.of("DeleteMessage", message)] == [False, True]
    refused = [call.refusal for call in scripted.calls if call.refusal]
    assert [refusal.code for refusal in refused] == ["InvalidParameterValue"]
    assert worker.pipeline.begun == 1
    assert await systems.connections.fetchval("SELECT count(*) FROM events") == 3


async def test_a_receipt_that_never_was(scripted: ScriptedSqs, plain: Queue) -> None:
    """Whatever SQS calls it, the delivery is over, and settling it fails nobody."""
    await plain.send("work")
    message = await receive_one(plain)
    foreign = replace(message, receipt="nonsense")

    with pytest.raises(StaleReceiptError, match="ReceiptHandleIsInvalid"):
        await plain.hide(foreign, timedelta(0))
    await Settlement(plain, plain).apply(foreign, Ack(), Stages(), [])

    assert scripted.messages() == [message.id]


@pytest.mark.parametrize(
    ("error", "verb"),
    [
        (None, "DeleteMessage"),
        (PermanentError("too_long", "d"), "DeleteMessage"),
        (UnavailableError("s3", "away"), "ChangeMessageVisibility"),
        (HorizonError(), "DeleteMessage"),
    ],
    ids=["stored", "failed", "outage", "horizon"],
)
async def test_the_final_verb_is_the_last(
    worker: Worker,
    scripted: ScriptedSqs,
    plain: Queue,
    systems: Systems,
    error: Exception | None,
    verb: str,
) -> None:
    """It waits for the beat that is on its way, and no beat follows it."""
    message = await announce(plain, systems.bucket)
    answer = scripted.hold("ChangeMessageVisibility")
    await until(lambda: len(about(scripted, message)) == 1)
    worker.end(error)
    await until(lambda: worker.heartbeats.shortest_lease(0) is None)
    for _ in range(100):  # a beat that is cut off would be over by then
        await asyncio.sleep(0)
    assert any(task.get_name().startswith("heartbeat-") for task in asyncio.all_tasks())
    asked = len(about(scripted, message))
    answer.set()
    await until(lambda: len(about(scripted, message)) == 2)

    beat, last = about(scripted, message)
    assert asked == 1
    assert beat.ended is not None
    assert beat.ended < last.started
    assert last.action == verb


async def test_a_drain_releases_last(
    worker: Worker,
    scripted: ScriptedSqs,
    plain: Queue,
    systems: Systems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Work that is cut off waits for its beat, too, and then shows the message again."""
    message = await announce(plain, systems.bucket)
    answer = scripted.hold("ChangeMessageVisibility")
    await until(lambda: len(scripted.of("ChangeMessageVisibility", message)) == 1)
    monkeypatch.setattr("poller.consumer.RELEASE_SECONDS", 60)
    worker.consumer.stop()
    drained = asyncio.create_task(worker.consumer.drain(0))
    await until(lambda: worker.heartbeats.shortest_lease(0) is None)
    for _ in range(100):  # a beat that is cut off would be over by then
        await asyncio.sleep(0)
    assert any(task.get_name().startswith("heartbeat-") for task in asyncio.all_tasks())
    answer.set()
    await drained

    beat, release = scripted.of("ChangeMessageVisibility", message)
    assert release.request["VisibilityTimeout"] == 0
    assert beat.ended is not None
    assert beat.ended < release.started
    assert scripted.calls[-1] == release


@pytest.mark.parametrize("refusal", [THROTTLED, OVER_LIMIT, UNAVAILABLE], ids=lambda r: r.code)
async def test_throttled_receives(
    systems: Systems, scripted: ScriptedSqs, clock: Clock, plain: Queue, refusal: Refusal
) -> None:
    """One request for each poll, a pause before the next one, and the work when it is over."""
    await systems.upload("k", b"-")
    await announce(plain, systems.bucket)
    scripted.refuse("ReceiveMessage", refusal, times=3)

    async with working(systems, scripted, clock) as worker:
        worker.end()
        await until(lambda: scripted.messages() == [])

        assert worker.consumer.outage is None
    polls = scripted.of("ReceiveMessage")[:4]
    assert [call.refusal for call in polls] == [refusal] * 3 + [None]
    assert all(later.at - earlier.at > 0.9 for earlier, later in pairwise(polls))


async def test_throttled_beats(
    worker: Worker, scripted: ScriptedSqs, plain: Queue, systems: Systems
) -> None:
    """Each beat asks SQS once; the lease goes on without it, and the next beat makes up for it."""
    message = await announce(plain, systems.bucket)
    await worker.works()
    scripted.refuse("ChangeMessageVisibility", THROTTLED, times=1)
    await worker.pass_time(2 * SCHEDULE.interval.total_seconds() + 1)
    await worker.works()
    worker.end()
    await until(lambda: scripted.messages() == [])

    hides = scripted.of("ChangeMessageVisibility", message)
    assert [call.took_effect for call in hides] == [True, False, True]
    assert covers(hidden(scripted, message), *worker.pipeline.ran[0])
    assert covers(worker.leases, *worker.pipeline.ran[0])


@pytest.mark.parametrize(("times", "deletions"), [(2, 3), (3, 4)])
async def test_throttled_deletions(
    worker: Worker,
    scripted: ScriptedSqs,
    plain: Queue,
    systems: Systems,
    times: int,
    deletions: int,
) -> None:
    """Three tries; after that the message comes back by itself and is deleted as a duplicate."""
    message = await announce(plain, systems.bucket)
    await worker.works()
    scripted.refuse("DeleteMessage", THROTTLED, times=times)
    worker.end()
    await until(lambda: len(scripted.of("DeleteMessage")) == 3 and worker.consumer.has_free_slot)
    if scripted.messages():
        scripted.redeliver(message)
    await until(lambda: scripted.messages() == [])

    assert len(scripted.of("DeleteMessage", message)) == deletions
    assert worker.pipeline.begun == 1
