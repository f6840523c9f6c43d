"""Finding work that stands still, and announcing it again, on the real servers."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from tests.commands import receive_all
from tests.integration.conftest import Systems
from tests.stalled import HOUR, store_analysis, store_bound

from poller.errors import PermanentError, UnavailableError
from poller.local.resources import Clients
from poller.postgres.pool import Connection, connect
from poller.postgres.upkeep import Stalled, Upkeep
from poller.s3 import Objects
from poller.sqs import Queue, open_client
from poller.sweep import Step, Terms, sweep_bucket, sweep_stalled


@dataclass(frozen=True, slots=True)
class Sweeper:
    """A sweep on this test's database and queue, and what it said."""

    upkeep: Upkeep
    inbox: Queue
    clients: Clients
    steps: list[tuple[str, str]] = field(default_factory=list)

    async def sweep(self, *, dry_run: bool = False) -> list[tuple[str, str]]:
        """What it did, as (key, step), in this one sweep."""
        self.steps.clear()
        await sweep_stalled(self.upkeep, self.inbox, Terms(HOUR, dry_run), self._on_step)
        return list(self.steps)

    async def sweep_bucket(
        self, objects: Objects, bucket: str, prefix: str = "", after: timedelta = timedelta(0)
    ) -> list[tuple[str, str]]:
        """The same for the objects of a bucket."""
        self.steps.clear()
        place = bucket, prefix
        terms = Terms(after, dry_run=False)
        await sweep_bucket(objects, place, self.upkeep, self.inbox, terms, self._on_step)
        return list(self.steps)

    async def sent(self) -> list[str]:
        """The keys that were announced, taken from the queue."""
        messages = await receive_all(self.clients, self.inbox.url)
        return sorted(json.loads(message["Body"])["s3"]["key"] for message in messages)

    def _on_step(self, stalled: Stalled, step: Step) -> None:
        self.steps.append((stalled.object_key, step.name))


@pytest.fixture
async def upkeep(database_url: str) -> AsyncIterator[Upkeep]:
    """What the command has of this test's database."""
    connection = await connect(database_url)
    yield Upkeep(connection)
    await connection.close()


@pytest.fixture
def sweeper(upkeep: Upkeep, inbox: Queue, clients: Clients) -> Sweeper:
    """A sweep that looks for what stands still for an hour."""
    return Sweeper(upkeep, inbox, clients)


async def test_what_stands_still_is_announced_again(sweeper: Sweeper, database: Connection) -> None:
    """A dead worker's video, a retry that nobody made, and a video that was never claimed."""
    await store_analysis(database, "processing.mp4", "processing")
    await store_analysis(database, "retry.mp4", "retry", not_before=2 * HOUR)
    await store_bound(database, "bound.mp4")

    steps = await sweeper.sweep()

    assert sorted(steps) == [
        ("bound.mp4", "SENT"),
        ("processing.mp4", "SENT"),
        ("retry.mp4", "SENT"),
    ]
    assert await sweeper.sent() == ["bound.mp4", "processing.mp4", "retry.mp4"]


async def test_what_is_under_way_or_over_is_left_alone(
    sweeper: Sweeper, database: Connection
) -> None:
    """Held, just released, waiting for its retry, at an end, just bound, or bound long ago."""
    await store_analysis(database, "held.mp4", idle=-HOUR)
    await store_analysis(database, "just.mp4", idle=HOUR / 2)
    await store_analysis(database, "waiting.mp4", "retry", not_before=HOUR / 2)
    for state in ("done", "failed", "superseded"):
        await store_analysis(database, f"{state}.mp4", state)
    await store_bound(database, "new.mp4", age=HOUR / 2)
    await store_bound(database, "old.mp4", age=timedelta(days=15))

    steps = await sweeper.sweep()

    assert (steps, await sweeper.sent()) == ([], [])


async def test_it_is_announced_again_when_its_wait_has_doubled(
    sweeper: Sweeper, database: Connection
) -> None:
    """The next sweep leaves it to its message, and a later one loses patience again."""
    await store_analysis(database, idle=3 * HOUR)
    await sweeper.sweep()

    soon = await sweeper.sweep()
    await database.execute("UPDATE videos SET resent_at = now() - interval '2 hours'")
    later = await sweeper.sweep()

    assert (soon, later) == ([("k.mp4", "WAITING")], [("k.mp4", "SENT")])


async def test_a_dry_run_does_nothing(sweeper: Sweeper, database: Connection) -> None:
    """It says what it would do, and says it again."""
    await store_analysis(database, "lost.mp4")
    await store_analysis(database, "overwritten.mp4", revision="r1")
    await store_analysis(database, "overwritten.mp4", "done", revision="r2", modified=HOUR)

    dry = [await sweeper.sweep(dry_run=True) for _ in range(2)]

    assert sorted(dry[0]) == [("lost.mp4", "SENT"), ("overwritten.mp4", "SUPERSEDED")]
    assert dry[1] == dry[0]
    assert await sweeper.sent() == []


@pytest.mark.parametrize("state", ["processing", "retry"])
async def test_an_overwritten_revision_is_ended(
    sweeper: Sweeper, database: Connection, state: str
) -> None:
    """Its bytes are gone, so a message would never reach it."""
    old = await store_analysis(database, state=state, revision="r1")
    await store_analysis(database, state="failed", revision="r2", modified=HOUR)

    steps = await sweeper.sweep()

    assert steps == [("k.mp4", "SUPERSEDED")]
    assert await sweeper.sent() == []
    ended = "SELECT state = 'superseded' AND done_at IS NOT NULL FROM analyses WHERE id = $1"
    assert await database.fetchval(ended, old)


async def test_what_another_pipeline_has_done_is_ended(
    sweeper: Sweeper, database: Connection
) -> None:
    """After an update or a rollback nobody works for the pipeline of the other version."""
    async with database.transaction():  # one now() for both
        await store_analysis(database, pipeline="new")
        await store_analysis(database, state="done", pipeline="old")

    assert await sweeper.sweep() == [("k.mp4", "SUPERSEDED")]


async def test_an_upload_of_the_same_second_ends_nothing(
    sweeper: Sweeper, database: Connection
) -> None:
    """S3 tells whole seconds: which of the two the object has now is not known."""
    async with database.transaction():  # one now() for both
        await store_analysis(database, revision="r1")
        await store_analysis(database, state="done", revision="r2")

    assert await sweeper.sweep() == [("k.mp4", "SENT")]


async def test_what_is_taken_up_meanwhile_is_not_ended(
    upkeep: Upkeep, database: Connection
) -> None:
    """Between the list and the statement a worker may claim it."""
    held = await store_analysis(database, idle=-HOUR)

    assert await upkeep.supersede(held) is False
    assert await database.fetchval("SELECT state FROM analyses") == "processing"


async def test_of_two_sweeps_one_sends(
    sweeper: Sweeper, database_url: str, database: Connection
) -> None:
    """However they overlap, every video is announced once."""
    keys = [f"{number}.mp4" for number in range(10)]
    for key in keys:
        await store_analysis(database, key)
    second = await connect(database_url)
    other = Sweeper(Upkeep(second), sweeper.inbox, sweeper.clients)

    await asyncio.gather(sweeper.sweep(), other.sweep())

    await second.close()
    assert await sweeper.sent() == sorted(keys)


async def test_what_could_not_be_sent_is_tried_by_the_next_sweep(
    sweeper: Sweeper, database: Connection
) -> None:
    """An outage of the queue does not look like an announcement."""
    await store_analysis(database)
    async with open_client(read_timeout=5, attempts=1) as client:
        broken = Sweeper(
            sweeper.upkeep, Queue(client, f"{sweeper.inbox.url}-gone"), sweeper.clients
        )
        with pytest.raises(UnavailableError):
            await broken.sweep()

    assert await sweeper.sweep() == [("k.mp4", "SENT")]


async def test_objects_that_no_message_led_to(systems: Systems, sweeper: Sweeper) -> None:
    """Those that were never claimed, and those that got new bytes; once, and no empty folders."""
    for key in ("in/known.mp4", "in/unknown.mp4", "in/overwritten.mp4", "out/unknown.mp4"):
        await systems.upload(key, b"bytes")
    await systems.upload("in/", b"")
    async with systems.connections.acquire() as connection:
        for key, modified in (("in/known.mp4", timedelta(0)), ("in/overwritten.mp4", HOUR)):
            await store_analysis(connection, key, "done", bucket=systems.bucket, modified=modified)

    steps = await sweeper.sweep_bucket(systems.objects, systems.bucket, "in/")
    again = await sweeper.sweep_bucket(systems.objects, systems.bucket, "in/", HOUR)

    assert steps == [("in/overwritten.mp4", "SENT"), ("in/unknown.mp4", "SENT")]
    assert again == [("in/overwritten.mp4", "WAITING"), ("in/unknown.mp4", "WAITING")]
    assert await sweeper.sent() == ["in/overwritten.mp4", "in/unknown.mp4"]


async def test_a_new_object_is_left_to_its_own_message(systems: Systems, sweeper: Sweeper) -> None:
    """An upload of this hour may still be in the queue."""
    await systems.upload("k.mp4", b"bytes")

    steps = await sweeper.sweep_bucket(systems.objects, systems.bucket, after=HOUR)

    assert (steps, await sweeper.sent()) == ([("k.mp4", "WAITING")], [])


async def test_a_bucket_that_is_not_there(objects: Objects, sweeper: Sweeper) -> None:
    """The name is wrong: no video is looked for in vain."""
    with pytest.raises(PermanentError, match="does not exist"):
        await sweeper.sweep_bucket(objects, "no-such-bucket")
