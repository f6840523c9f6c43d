"""The heartbeat on a real Postgres and the real emulator."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.factories import make_message, make_request
from tests.integration.conftest import opened_pool, receive_one
from tests.proxy import proxied

from poller import sqs
from poller.errors import LeaseLostError
from poller.heartbeat import Heartbeat, Heartbeats
from poller.postgres.claims import Claimed, Claims, Content, Delivery
from poller.postgres.pool import Pool
from poller.rules.lease import RELEASE_SECONDS, Schedule
from poller.sqs import Queue

LEASE = timedelta(seconds=3)
SCHEDULE = Schedule(LEASE, timedelta(seconds=0.5))


def make_claims(connections: Pool, lease: timedelta = LEASE) -> Claims:
    """A worker."""
    return Claims(connections, owner="test", lease=lease, pipeline="p")


def seconds_left(beat: Heartbeat) -> float:
    """What the heartbeat knows to be left of its lease."""
    return beat.lease_until - asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], seconds: float = 8) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


async def claim_new(claims: Claims) -> Claimed:
    """Claim the one video of a test."""
    video = await claims.bind(make_request())
    found = await claims.claim(
        video, Content("r", 1, datetime.now(UTC)), Delivery("m", uuid4(), is_redriven=False)
    )
    assert isinstance(found, Claimed)
    return found


async def test_it_beats_at_once_and_keeps_both(connections: Pool, inbox: Queue) -> None:
    """The lease and the visibility outlast their own length while the work goes on."""
    claims = make_claims(connections)
    held = await claim_new(claims)
    await inbox.send("work")
    message = await receive_one(inbox, visibility_seconds=2)

    async with Heartbeats(claims, inbox, SCHEDULE).hold(held, message) as beat:
        beat.report(0.5)
        again = await inbox.receive(limit=1, wait_seconds=5, visibility_seconds=30)

    remaining = await connections.fetchval("SELECT lease_expires_at - now() FROM analyses")
    assert again == []
    assert timedelta(seconds=2) < remaining < LEASE
    assert await connections.fetchval("SELECT progress FROM analyses") == 0.5


async def test_a_lost_fence_cancels_the_work(connections: Pool, inbox: Queue) -> None:
    """When another worker has the lease, the body is cancelled and the error says why."""
    claims = make_claims(connections)
    held = await claim_new(claims)

    with pytest.raises(LeaseLostError) as lost:  # noqa: PT012 - the body is what is cancelled
        async with Heartbeats(claims, inbox, SCHEDULE).hold(held, make_message()):
            await connections.execute("UPDATE analyses SET lease_token = lease_token + 1")
            await asyncio.wait_for(asyncio.Event().wait(), timeout=5)

    assert lost.value.cause == "fence"


async def test_a_database_out_of_reach_past_the_lease_cancels_the_work(
    database_url: str, inbox: Queue
) -> None:
    """Held connections and all: the work ends when the lease does, at most 5 s later."""
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        claims = make_claims(connections)
        held = await claim_new(claims)
        loop = asyncio.get_running_loop()

        with pytest.raises(LeaseLostError) as lost:  # noqa: PT012 - likewise
            async with Heartbeats(claims, inbox, SCHEDULE).hold(held, make_message()):
                proxy.hold()
                since = loop.time()
                await asyncio.wait_for(asyncio.Event().wait(), timeout=20)
        took = loop.time() - since

    assert lost.value.cause == "database"
    assert took < LEASE.total_seconds() + 5


async def test_a_short_outage_is_survived(database_url: str, inbox: Queue) -> None:
    """A beat that fails is repeated inside the lease."""
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        claims = make_claims(connections, timedelta(seconds=10))
        held = await claim_new(claims)
        schedule = Schedule(timedelta(seconds=10), timedelta(seconds=0.5))

        async with Heartbeats(claims, inbox, schedule).hold(held, make_message()) as beat:
            proxy.cut()
            await until(lambda: seconds_left(beat) < 8.5)
            proxy.restore()
            await until(lambda: seconds_left(beat) > 9)


class Hanging(Claims):
    """The real claims, whose first beat never gets an answer."""

    hung = 0

    async def extend(self, claim: Claimed, progress: float) -> None:
        """Hang once."""
        self.hung += 1
        if self.hung == 1:
            await asyncio.Event().wait()
        await super().extend(claim, progress)


async def test_one_hung_connection_does_not_cost_the_lease(connections: Pool, inbox: Queue) -> None:
    """A beat without an answer is repeated inside the lease."""
    claims = Hanging(connections, owner="test", lease=LEASE, pipeline="p")
    held = await claim_new(claims)

    async with Heartbeats(claims, inbox, SCHEDULE).hold(held, make_message()) as beat:
        first = beat.lease_until
        await until(lambda: beat.lease_until > first)

    assert claims.hung >= 2


class Broken(Claims):
    """The real claims, with a bug in the beat."""

    async def extend(self, *_: object) -> None:
        """Fail as only a bug does."""
        raise ZeroDivisionError


async def test_work_without_a_heartbeat_does_not_go_on(connections: Pool, inbox: Queue) -> None:
    """Whatever ends the heartbeat cancels the body."""
    claims = Broken(connections, owner="test", lease=LEASE, pipeline="p")
    held = await claim_new(claims)

    with pytest.raises(LeaseLostError) as lost:
        async with Heartbeats(claims, inbox, SCHEDULE).hold(held, make_message()):
            await asyncio.wait_for(asyncio.Event().wait(), timeout=5)

    assert lost.value.cause == "heartbeat"


async def test_a_lost_receipt_does_not_stop_the_work(connections: Pool, inbox: Queue) -> None:
    """The lease is what protects the work; beats go on without the message."""
    claims = make_claims(connections)
    held = await claim_new(claims)
    await inbox.send("work")
    message = await receive_one(inbox)
    await inbox.delete(message)

    async with Heartbeats(claims, inbox, SCHEDULE).hold(held, message) as beat:
        first = beat.lease_until
        await until(lambda: beat.lease_until >= first + 1)


@pytest.fixture
async def silent(
    aws: dict[str, str], inbox: Queue, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Queue]:
    """This test's queue through a client that is patient, behind a server that never answers."""
    async with proxied(aws["AWS_ENDPOINT_URL"]) as (url, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        async with sqs.open_client(read_timeout=60, attempts=1) as client:
            proxy.hold()
            yield Queue(client, inbox.url)


async def test_a_queue_that_does_not_answer_costs_no_work(connections: Pool, silent: Queue) -> None:
    """The beats of the lease go on in time without it."""
    claims = make_claims(connections)
    held = await claim_new(claims)

    async with Heartbeats(claims, silent, SCHEDULE).hold(held, make_message()) as beat:
        first = beat.lease_until
        await until(lambda: beat.lease_until >= first + 2 * LEASE.total_seconds())


async def test_a_queue_that_does_not_answer_leaves_a_drain_its_time(
    connections: Pool, silent: Queue
) -> None:
    """The beat that is on its way at the end is waited for by one bound, not by its client's."""
    claims = make_claims(connections, timedelta(seconds=90))
    held = await claim_new(claims)
    schedule = Schedule(timedelta(seconds=90), timedelta(seconds=30))

    async with Heartbeats(claims, silent, schedule).hold(held, make_message()) as beat:
        first = beat.lease_until
        await until(lambda: beat.lease_until > first)
        since = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - since

    assert took < RELEASE_SECONDS / 2 + 1


class SlowHide(Queue):
    """The real queue, whose change of visibility takes a while; counts those on their way."""

    started = asyncio.Event()
    finished = 0

    async def hide(self, message: object, duration: timedelta) -> None:
        """Take a while, less than the interval."""
        self.started.set()
        await asyncio.sleep(0.2)
        await super().hide(message, duration)  # type: ignore[arg-type] # passed on as it came
        self.finished += 1


async def test_no_beat_lands_after_the_final_verb(connections: Pool, inbox: Queue) -> None:
    """A change of visibility that is on its way is awaited, not cut off, before the body's end."""
    claims = make_claims(connections)
    held = await claim_new(claims)
    await inbox.send("work")
    message = await receive_one(inbox)
    slow = SlowHide(inbox._client, inbox.url)
    slow.started = asyncio.Event()

    async with Heartbeats(claims, slow, SCHEDULE).hold(held, message):
        await slow.started.wait()
    after_the_body = slow.finished
    await inbox.hide(message, timedelta(0))

    assert after_the_body == 1
    assert (await receive_one(inbox)).body == "work"
