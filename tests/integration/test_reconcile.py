"""Dropping dead letters whose videos were analysed after all, on the real servers."""

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tests.commands import receive_all, send_letter
from tests.factories import make_application_body, make_s3_body, make_s3_record
from tests.integration.conftest import Systems
from tests.stalled import store_analysis

from poller.errors import UnavailableError
from poller.postgres.pool import Connection, connect
from poller.postgres.upkeep import Upkeep
from poller.reconcile import Tally, drop_finished
from poller.s3 import Objects
from poller.s3 import open_client as open_s3
from poller.sqs import Message, Queue, StaleReceiptError


class Reconciler:
    """A DLQ with letters, and the walk through it."""

    def __init__(self, systems: Systems, dead_letters: Queue, upkeep: Upkeep) -> None:
        self._systems = systems
        self._dlq = dead_letters
        self._upkeep = upkeep

    @property
    def bucket(self) -> str:
        """Where the objects are."""
        return self._systems.bucket

    async def upload(self, key: str = "k.mp4", content: bytes = b"bytes") -> str:
        """Put an object and return its revision."""
        await self._systems.upload(key, content)
        return (await self._systems.objects.head(self.bucket, key)).revision

    async def announce(
        self, key: str = "k.mp4", reason: str = "too_long", video_id: object = None
    ) -> None:
        """Put a letter about the key into the DLQ."""
        await self.send(make_application_body(self.bucket, key, video_id), reason)

    async def send(self, body: str, reason: str = "too_long") -> None:
        """Put a letter into the DLQ."""
        await send_letter(self._systems.clients, self._dlq.url, body, reason)

    async def drop(
        self, *, objects: Objects | None = None, dry_run: bool = False, tally: Tally | None = None
    ) -> Tally:
        """Walk through the DLQ once."""
        tally = tally or Tally()
        await drop_finished(
            self._dlq,
            objects or self._systems.objects,
            self._upkeep,
            tally,
            dry_run=dry_run,
            on_letter=lambda *_: None,
        )
        return tally

    async def left(self) -> int:
        """How many letters are visible."""
        return len(await receive_all(self._systems.clients, self._dlq.url))


@pytest.fixture
async def reconciler(
    systems: Systems, dead_letters: Queue, database_url: str
) -> AsyncIterator[Reconciler]:
    """A walk through this test's DLQ."""
    connection = await connect(database_url)
    yield Reconciler(systems, dead_letters, Upkeep(connection))
    await connection.close()


async def test_a_letter_whose_video_is_done_is_dropped(
    reconciler: Reconciler, database: Connection
) -> None:
    """As when another announcement of the same bytes led to results; the rest is visible again."""
    revision = await reconciler.upload()
    await store_analysis(database, state="done", bucket=reconciler.bucket, revision=revision)
    await reconciler.announce()
    await reconciler.announce("other.mp4", "object_missing")

    tally = await reconciler.drop()

    assert (dict(tally.dropped), dict(tally.kept)) == ({"too_long": 1}, {"object_missing": 1})
    assert await reconciler.left() == 1


class Undeletable(Queue):
    """A real queue whose letters cannot be deleted now."""

    error: Exception

    async def delete(self, message: Message) -> None:
        """Fail as told."""
        assert message.receipt
        raise self.error


@pytest.mark.parametrize("error", [UnavailableError("sqs", "-"), StaleReceiptError("-")])
async def test_a_letter_that_cannot_be_deleted_is_not_counted(
    reconciler: Reconciler, database: Connection, error: Exception
) -> None:
    """After an outage it is visible again; one that somebody else has is left to them."""
    revision = await reconciler.upload()
    await store_analysis(database, state="done", bucket=reconciler.bucket, revision=revision)
    await reconciler.announce()
    dlq, tally = reconciler._dlq, Tally()
    reconciler._dlq = stuck = Undeletable(dlq._client, dlq.url)
    stuck.error = error

    with suppress(UnavailableError):
        await reconciler.drop(tally=tally)

    assert tally.dropped.total() == 0
    assert await reconciler.left() == (0 if isinstance(error, StaleReceiptError) else 1)


async def test_a_dry_run_drops_nothing(reconciler: Reconciler, database: Connection) -> None:
    """It says what it would drop, and every letter is visible again."""
    revision = await reconciler.upload()
    await store_analysis(database, state="done", bucket=reconciler.bucket, revision=revision)
    await reconciler.announce()

    tally = await reconciler.drop(dry_run=True)

    assert (tally.dropped.total(), await reconciler.left()) == (1, 1)


async def test_a_letter_about_newer_bytes_stays(
    reconciler: Reconciler, database: Connection
) -> None:
    """What is done is the revision before; the letter may be all that tells of the new one."""
    old = await reconciler.upload(content=b"old")
    await store_analysis(database, state="done", bucket=reconciler.bucket, revision=old)
    await reconciler.upload(content=b"new")
    await reconciler.announce(reason="object_unreadable")

    tally = await reconciler.drop()

    assert (tally.dropped.total(), await reconciler.left()) == (0, 1)


@pytest.mark.parametrize("state", ["failed", "processing", "retry", "superseded"])
async def test_a_letter_whose_latest_analysis_is_not_done_stays(
    reconciler: Reconciler, database: Connection, state: str
) -> None:
    """Results of an older pipeline do not make the failure of a newer one good."""
    revision = await reconciler.upload()
    for pipeline, ended in (("old", "done"), ("new", state)):
        await store_analysis(
            database,
            state=ended,
            bucket=reconciler.bucket,
            revision=revision,
            pipeline=pipeline,
        )
    await reconciler.announce()

    tally = await reconciler.drop()

    assert (tally.dropped.total(), await reconciler.left()) == (0, 1)


async def test_a_letter_about_an_object_that_is_gone_stays(
    reconciler: Reconciler, database: Connection
) -> None:
    """Whether its last bytes were those that were analysed cannot be told any more."""
    await store_analysis(database, state="done", bucket=reconciler.bucket)
    await reconciler.announce()

    tally = await reconciler.drop()

    assert (tally.dropped.total(), await reconciler.left()) == (0, 1)


@pytest.mark.parametrize(("bound", "dropped"), [("84", 1), ("85", 0), (None, 0)])
async def test_a_letter_with_an_id_that_is_not_bound_stays(
    reconciler: Reconciler, database: Connection, bound: str | None, dropped: int
) -> None:
    """With the letter the id would be gone, or that two ids were stated for one object."""
    revision = await reconciler.upload()
    await store_analysis(
        database, state="done", bucket=reconciler.bucket, revision=revision, external_id=bound
    )
    await reconciler.announce(reason="identity_conflict", video_id=84)

    tally = await reconciler.drop()

    assert (tally.dropped.total(), await reconciler.left()) == (dropped, 1 - dropped)


async def test_a_letter_with_several_videos_goes_with_the_last_of_them(
    reconciler: Reconciler, database: Connection
) -> None:
    """It stays while one of its videos has no results."""
    keys = ("a.mp4", "b.mp4")
    revisions = [await reconciler.upload(key) for key in keys]
    await reconciler.send(make_s3_body(*(make_s3_record(reconciler.bucket, key) for key in keys)))

    tallies = []
    for key, revision in zip(keys, revisions, strict=True):
        await store_analysis(database, key, "done", bucket=reconciler.bucket, revision=revision)
        tallies.append(await reconciler.drop())

    assert [tally.dropped.total() for tally in tallies] == [0, 1]


@pytest.mark.parametrize("body", ["no json", '{"Event": "s3:TestEvent"}', make_s3_body({"x": 1})])
async def test_a_letter_that_names_no_video_stays(reconciler: Reconciler, body: str) -> None:
    """There is nothing to look up."""
    await reconciler.send(body, "not_json")

    tally = await reconciler.drop()

    assert (tally.dropped.total(), await reconciler.left()) == (0, 1)


async def test_a_letter_with_a_record_that_was_rejected_stays(
    reconciler: Reconciler, database: Connection
) -> None:
    """The videos beside it are done, and the rejected one is not."""
    revision = await reconciler.upload()
    await store_analysis(database, state="done", bucket=reconciler.bucket, revision=revision)
    good, bad = make_s3_record(reconciler.bucket), make_s3_record("not a bucket", "x")
    await reconciler.send(make_s3_body(good, bad), "invalid_bucket")

    tally = await reconciler.drop()

    assert (tally.dropped.total(), await reconciler.left()) == (0, 1)


async def test_an_outage_leaves_every_letter(
    reconciler: Reconciler, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be looked up is not decided, and is visible at once."""
    revision = await reconciler.upload()
    await store_analysis(database, state="done", bucket=reconciler.bucket, revision=revision)
    await reconciler.announce()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with open_s3() as client:
        with pytest.raises(UnavailableError):
            await reconciler.drop(objects=Objects(client))

    assert await reconciler.left() == 1


async def test_a_letter_of_no_interest_costs_no_question_to_s3(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most letters are about videos that were never analysed: the database knows that."""
    await reconciler.announce()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with open_s3() as client:
        tally = await reconciler.drop(objects=Objects(client))

    assert tally.kept.total() == 1
