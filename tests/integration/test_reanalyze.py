"""Having analysed again, by another pipeline, what has results; on the real servers."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from tests.commands import receive_all
from tests.integration.conftest import Systems
from tests.integration.test_claims import Database, granted, make_analysis, make_delivery
from tests.stalled import HOUR, store_analysis

from poller.errors import UnavailableError
from poller.local.resources import Clients
from poller.postgres.claims import Claimed, Content
from poller.postgres.pool import Connection, connect
from poller.postgres.upkeep import Scope, Shown, Upkeep
from poller.reanalysis import Fate, reanalyze
from poller.s3 import Objects
from poller.sqs import Queue, open_client


@dataclass(frozen=True, slots=True)
class Again:
    """A reanalysis on this test's database, bucket and queue."""

    upkeep: Upkeep
    objects: Objects
    inbox: Queue
    clients: Clients
    fates: list[tuple[str, str]] = field(default_factory=list)

    async def run(
        self, scope: Scope | None = None, limit: int = 100, *, dry_run: bool = False
    ) -> list[tuple[str, str]]:
        """What became of which key, in order."""
        self.fates.clear()
        videos = await self.upkeep.list_shown(scope or Scope(), limit)
        await reanalyze(videos, self.objects, self.upkeep, self.inbox, self._note, dry_run=dry_run)
        return list(self.fates)

    async def sent(self) -> list[str]:
        """The keys that were announced, taken from the queue."""
        messages = await receive_all(self.clients, self.inbox.url)
        return sorted(json.loads(message["Body"])["s3"]["key"] for message in messages)

    def _note(self, video: Shown, fate: Fate) -> None:
        self.fates.append((video.object_key, fate.name))


@pytest.fixture
async def again(
    database_url: str, objects: Objects, inbox: Queue, clients: Clients
) -> AsyncIterator[Again]:
    """What the command has of this test's systems."""
    connection = await connect(database_url)
    yield Again(Upkeep(connection), objects, inbox, clients)
    await connection.close()


async def store_done(
    systems: Systems, database: Connection, *keys: str, pipeline: str = "p"
) -> None:
    """Videos with results, and their objects."""
    for key in keys:
        await systems.upload(key, b"bytes")
        await store_analysis(database, key, "done", bucket=systems.bucket, pipeline=pipeline)


async def shown(database: Database) -> set[tuple[str, int]]:
    """Which pipelines' events `timeline` shows, and how many of each."""
    rows = await database.pool.fetch("SELECT pipeline, count(*) FROM timeline GROUP BY pipeline")
    return {(row["pipeline"], row["count"]) for row in rows}


async def test_old_results_are_shown_until_the_new_ones_are_done(
    systems: Systems, again: Again
) -> None:
    """Announced, claimed by the new pipeline, stored: at each moment one pipeline is shown."""
    database = Database(systems.connections)
    states: list[set[tuple[str, int]]] = []
    await systems.upload("k", b"bytes")
    head = await systems.objects.head(systems.bucket, "k")
    content = Content(head.revision, head.size_bytes, head.modified_at)
    video_id = await database.pool.fetchval(
        "INSERT INTO videos (bucket, object_key) VALUES ($1, 'k') RETURNING id", systems.bucket
    )

    for pipeline, events in (("old", 3), ("new", 5)):
        if states:
            await again.run()
            states.append(await shown(database))
        claim = await database.worker(pipeline=pipeline).claim(video_id, content, make_delivery())
        assert isinstance(claim, Claimed)
        states.append(await shown(database))
        await database.results.store(claim, make_analysis(events))
        states.append(await shown(database))

    assert states == [set(), {("old", 3)}, {("old", 3)}, {("old", 3)}, {("new", 5)}]
    assert await again.sent() == ["k"]
    assert await database.count("events") == 8


async def test_a_late_old_pipeline_does_not_hide_the_new_one(systems: Systems) -> None:
    """A task of the old version that stores after the new one was begun later."""
    database = Database(systems.connections)
    late = await granted(database.worker(pipeline="old"))
    await database.results.store(await granted(database.worker(pipeline="new")), make_analysis(5))

    await database.results.store(late, make_analysis(3))

    assert await shown(database) == {("new", 5)}


async def test_only_what_has_results_is_announced(
    systems: Systems, database: Connection, again: Again
) -> None:
    """Not what is in work or failed; an object that is gone would only become a dead letter."""
    await store_done(systems, database, "a.mp4", "gone.mp4", "z.mp4")
    await systems.clients.s3.delete_object(Bucket=systems.bucket, Key="gone.mp4")
    await store_analysis(database, "failed.mp4", "failed", bucket=systems.bucket)
    await store_analysis(database, "work.mp4", "processing", bucket=systems.bucket)

    fates = await again.run()

    expected = [("a.mp4", "SENT"), ("gone.mp4", "UNREADABLE"), ("z.mp4", "SENT")]
    assert sorted(fates) == expected
    assert await again.sent() == ["a.mp4", "z.mp4"]
    # Those that are gone do not stand in the way of others: they are looked at in their turn.
    gone = await database.fetchval("SELECT resent_at FROM videos WHERE object_key = 'gone.mp4'")
    assert gone is not None


async def test_a_dry_run_sends_nothing(
    systems: Systems, database: Connection, again: Again
) -> None:
    """It counts the same, and what it counted is sent by the next run."""
    await store_done(systems, database, "a.mp4")

    fates = await again.run(dry_run=True)

    assert fates == [("a.mp4", "SENT")]
    assert await again.sent() == []
    assert await again.run(Scope(idle=HOUR)) == fates


async def test_runs_with_a_limit_go_through_all_of_it(
    systems: Systems, database: Connection, again: Again
) -> None:
    """Each begins where the last one ended, and at the end there is nothing left for a while."""
    await store_done(systems, database, *(f"{number}.mp4" for number in range(5)))

    runs = [await again.run(Scope(idle=HOUR), limit=2) for _ in range(4)]

    assert [len(fates) for fates in runs] == [2, 2, 1, 0]
    assert await again.sent() == [f"{number}.mp4" for number in range(5)]


async def test_a_scope_is_kept_to(systems: Systems, database: Connection, again: Again) -> None:
    """By video, by bucket and prefix, by the pipeline whose results are shown."""
    await store_done(systems, database, "a/1.mp4", "a/2.mp4", "b/3.mp4")
    await store_done(systems, database, "b/3.mp4", pipeline="q")
    one = await database.fetchval("SELECT id FROM videos WHERE object_key = 'a/1.mp4'")
    bucket = systems.bucket
    scopes = [
        Scope(videos=[one]),
        Scope(bucket=bucket, prefix="a/"),
        Scope(bucket="another"),
        Scope(pipeline="q"),
        Scope(pipeline="p", idle=timedelta(0)),
    ]

    found = [sorted(key for key, _ in await again.run(scope, dry_run=True)) for scope in scopes]

    both = ["a/1.mp4", "a/2.mp4"]
    assert found == [["a/1.mp4"], both, [], ["b/3.mp4"], both]


async def test_what_could_not_be_sent_is_not_marked(
    systems: Systems, database: Connection, again: Again
) -> None:
    """With SQS away the next run begins with it."""
    await store_done(systems, database, "a.mp4")
    videos = await again.upkeep.list_shown(Scope(idle=HOUR), 10)
    async with open_client(read_timeout=5, attempts=1) as client:
        gone = Queue(client, f"{again.inbox.url}-gone")
        with pytest.raises(UnavailableError):
            await reanalyze(
                videos, again.objects, again.upkeep, gone, lambda *_: None, dry_run=False
            )

    assert await again.upkeep.list_shown(Scope(idle=HOUR), 10) == videos
