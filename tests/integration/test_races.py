"""What has bitten other queue consumers: two sides at once, and what one of them must not do."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psutil
import pytest
from tests.clips import make_clip
from tests.factories import make_application_body
from tests.integration.conftest import Systems
from tests.integration.test_claims import (
    NO_LEASE,
    Database,
    claim,
    granted,
    make_analysis,
    make_delivery,
    uploaded,
)
from tests.integration.test_heartbeat import until
from tests.integration.test_watch import Parts
from tests.proxy import Proxy, proxied

from inference.device import Device
from poller import sqs
from poller.errors import LeaseLostError, UnavailableError
from poller.pipeline import Pipeline
from poller.postgres.claims import Claimed, Content, Held, Terminal
from poller.postgres.pool import Pool
from poller.rules.verdict import Outcome, Stored
from poller.sqs import Message, Queue

RACES = 40


@pytest.fixture
def database(connections: Pool) -> Database:
    """This test's database behind the service's own pool."""
    return Database(connections)


async def test_a_takeover_and_a_commit(database: Database) -> None:
    """A rescuer never takes what was just completed, nor does a loser complete what was taken."""
    for number in range(RACES):
        key = f"{number}.mp4"
        held = await granted(database.worker(NO_LEASE), key=key)

        async def store(held: Claimed = held) -> bool:
            try:
                await database.results.store(held, make_analysis())
            except LeaseLostError:
                return False
            return True

        async def take_over(key: str = key, turns: int = number) -> Claimed | Held | Terminal:
            for _ in range(turns):  # a little later each time, so that both sides win some
                await asyncio.sleep(0)
            return await claim(database.worker(), key=key)

        is_stored, found = await asyncio.gather(store(), take_over())
        row = await database.row(held.analysis_id)

        assert isinstance(found, Terminal if is_stored else Claimed)
        assert (row["state"], row["lease_token"]) == (
            ("done", 1) if is_stored else ("processing", 2)
        )
        assert row["done_token"] == (1 if is_stored else None)


async def test_a_takeover_and_a_late_beat(database: Database) -> None:
    """An expired lease stays with its holder or goes to the rival, never to both."""
    for number in range(RACES):
        held = await granted(database.worker(NO_LEASE), key=f"{number}.mp4")

        async def beat(held: Claimed = held) -> bool:
            try:
                await database.worker().extend(held, 0.5)
            except LeaseLostError:
                return False
            return True

        content = Content("r1", 1000, uploaded(1))
        rival = database.worker().claim(held.video_id, content, make_delivery())
        sides = [beat(), rival]
        first = number % 2  # whose statement is sent first
        found = await asyncio.gather(*(sides if first == 0 else reversed(sides)))
        is_kept, taken = found if first == 0 else reversed(found)

        assert isinstance(taken, Held if is_kept else Claimed)


class Deaf(Queue):
    """The real queue, through which a heartbeat cannot hide anything."""

    asked = 0

    async def hide(self, message: Message, duration: timedelta) -> None:
        """Fail."""
        self.asked += 1
        raise UnavailableError("sqs", f"{message.id} for {duration}")


async def test_failed_beats_do_not_fail_the_end(systems: Systems) -> None:
    """A video whose heartbeats never reached SQS is stored, and its message is deleted."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=1).read_bytes()
    await systems.upload("k", clip)
    await systems.inbox.send(make_application_body(systems.bucket, "k"))
    device = Device("cpu")
    await device.start()
    parts = Parts(systems, device=device)
    deaf = Deaf(systems.inbox._client, systems.inbox.url)
    parts.heartbeats._queue = deaf

    process = psutil.Process(device.pid)
    process.suspend()  # else the video may be done before it was time for a beat
    loop = asyncio.create_task(parts.consumer.run())
    await until(lambda: deaf.asked > 0, seconds=30)
    process.resume()
    async with asyncio.timeout(60):
        while sum((await systems.inbox.depth()).values()):  # noqa: ASYNC110 - a queue has no event
            await asyncio.sleep(0.1)
    parts.consumer.stop()
    await loop
    await device.close()

    assert await systems.connections.fetchval("SELECT state FROM analyses") == "done"


class Slow(Pipeline):
    """The real pipeline, whose videos are done when the test says so."""

    go_on: asyncio.Event
    begun = 0

    async def run(self, *_: object) -> Outcome:
        """Wait."""
        self.begun += 1
        await self.go_on.wait()
        return Stored()


async def test_nothing_is_prefetched(systems: Systems) -> None:
    """A message that no slot is free for stays in the queue, where its time does not run."""
    for key in ("a", "b", "c"):
        await systems.inbox.send(make_application_body(key=key))
    parts = Parts(systems, kind=Slow)  # one slot
    pipeline = parts.consumer._pipeline
    assert isinstance(pipeline, Slow)
    pipeline.go_on = asyncio.Event()

    loop = asyncio.create_task(parts.consumer.run())
    await until(lambda: pipeline.begun == 1)
    meanwhile = await systems.inbox.depth()
    pipeline.go_on.set()
    await until(lambda: pipeline.begun == 3)
    parts.consumer.stop()
    await loop

    assert (meanwhile["visible"], meanwhile["in_flight"]) == (2, 1)


@pytest.fixture
async def black_hole(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """SQS behind a proxy that passes nothing on, and what was sent to it."""
    async with proxied(aws["AWS_ENDPOINT_URL"]) as (url, proxy):
        sent: list[bytes] = []
        proxy.on_request = sent.append
        proxy.hold()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        yield proxy, sent


async def test_a_receive_without_an_answer(
    black_hole: tuple[Proxy, list[bytes]], queue: str
) -> None:
    """It is sent once, and given up in bounded time: a retry would be a poll that nobody sees."""
    _, sent = black_hole
    async with sqs.open_client(read_timeout=2, attempts=1) as client:
        inbox = Queue(client, queue)
        async with asyncio.timeout(5):
            with pytest.raises(UnavailableError):
                await inbox.receive(limit=1, wait_seconds=1, visibility_seconds=30)

    assert sum(b"AmazonSQS.ReceiveMessage" in piece for piece in sent) == 1
