"""The claim protocol on a real Postgres."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from tests.factories import make_request
from tests.integration.conftest import opened_pool
from tests.proxy import proxied

from inference.analyze import Analysis, Cost
from inference.events import Embedding, Event, Results
from inference.frames import VideoInfo
from poller.errors import LeaseLostError, PermanentError, UnavailableError
from poller.postgres import pool, results
from poller.postgres.claims import Claimed, Claims, Content, Delivery, Held, Terminal
from poller.rules.identity import Source

LEASE = timedelta(seconds=90)
NO_LEASE = timedelta(0)


class Database:
    """One test's database: its pool, and claims that any number of workers make."""

    def __init__(self, connections: pool.Pool) -> None:
        self.pool = connections
        self.results = results.Results(connections)

    def worker(self, lease: timedelta = LEASE, pipeline: str = "p") -> Claims:
        """A worker with its own lease time."""
        return Claims(self.pool, owner=f"worker-{uuid4()}", lease=lease, pipeline=pipeline)

    async def row(self, analysis_id: int) -> asyncpg.Record:
        """The analysis as it stands."""
        found = await self.pool.fetchrow("SELECT * FROM analyses WHERE id = $1", analysis_id)
        assert found is not None
        return found

    async def count(self, table: str) -> int:
        """Rows in a table."""
        return int(await self.pool.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - names of ours


@pytest.fixture
def database(connections: pool.Pool) -> Database:
    """This test's database behind the service's own pool."""
    return Database(connections)


def make_delivery(
    message_id: str = "m", lease_id: UUID | None = None, *, is_redriven: bool = False
) -> Delivery:
    """A delivery with a claim uuid of its own."""
    return Delivery(message_id, lease_id or uuid4(), is_redriven)


def uploaded(second: int) -> datetime:
    """A time of upload."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


async def claim(
    worker: Claims,
    delivery: Delivery | None = None,
    revision: str = "r1",
    key: str = "k.mp4",
    modified_at: datetime | None = None,
) -> Claimed | Held | Terminal:
    """Claim a video as the pipeline does; `r2` was uploaded a second after `r1`."""
    video_id = await worker.bind(make_request(key=key))
    content = Content(revision, 1000, modified_at or uploaded(int(revision[1:])))
    return await worker.claim(video_id, content, delivery or make_delivery())


async def granted(
    worker: Claims, delivery: Delivery | None = None, revision: str = "r1", key: str = "k.mp4"
) -> Claimed:
    """Claim a video that is free."""
    found = await claim(worker, delivery, revision, key)
    assert isinstance(found, Claimed), found
    return found


def make_analysis(events: int = 3, embeddings: int = 2) -> Analysis:
    """Results of a given size."""
    vector = np.full(256, 1 / 16, np.float32)
    return Analysis(
        info=VideoInfo("mp4", "h264", 1280, 720, 25.0, 60.0, 1500),
        results=Results(
            events=tuple(
                Event("shot", n * 1000, n * 1000 + 999, 0.5, attributes={"n": n})
                for n in range(events)
            ),
            embeddings=tuple(
                Embedding("frame", n * 1000, n * 1000 + 999, "dct-hog-v1", vector)
                for n in range(embeddings)
            ),
        ),
        frames_decoded=1500,
        frames_analyzed=300,
        decode_seconds=1.0,
        infer_seconds=1.0,
        cost=Cost(2.0, 0.5),
    )


async def test_one_of_many_wins(database: Database) -> None:
    """Twenty workers claim one new video at once: one gets it, the others are told to wait."""
    found = await asyncio.gather(*(claim(database.worker()) for _ in range(20)))

    winners = [f for f in found if isinstance(f, Claimed)]
    losers = [f for f in found if isinstance(f, Held)]
    assert (len(winners), len(losers)) == (1, 19)
    assert all(timedelta(seconds=60) < loser.wait <= LEASE for loser in losers)


async def test_an_expired_lease_is_taken_over_once(database: Database) -> None:
    """After expiry one of many rivals gets the next token, and the attempt is counted."""
    first = await granted(database.worker(NO_LEASE))

    found = await asyncio.gather(*(claim(database.worker()) for _ in range(20)))

    winners = [f for f in found if isinstance(f, Claimed)]
    assert [(w.token, w.attempts) for w in winners] == [(first.token + 1, 2)]


async def test_a_claim_can_be_repeated(database: Database) -> None:
    """The same claim uuid is the same grant: a lost reply costs neither a token nor an attempt."""
    worker, delivery = database.worker(), make_delivery()

    assert await granted(worker, delivery) == await granted(worker, delivery)


async def test_a_retry_waits_for_its_time(database: Database) -> None:
    """Before `not_before` the video is held, for exactly as long as that."""
    worker = database.worker()
    first = await granted(worker)
    await worker.postpone(first, timedelta(seconds=40), counted=True, reason="x", detail="y")

    found = await claim(database.worker())

    assert isinstance(found, Held)
    assert timedelta(seconds=30) < found.wait <= timedelta(seconds=40)


@pytest.mark.parametrize(("counted", "attempts"), [(True, 2), (False, 1)])
async def test_an_interruption_is_refunded(
    database: Database, *, counted: bool, attempts: int
) -> None:
    """A retry counts as an attempt and an interruption does not; both may be claimed at once."""
    worker = database.worker()
    first = await granted(worker)
    await worker.postpone(first, NO_LEASE, counted=counted, reason="x", detail="y")

    second = await granted(database.worker())

    assert (second.token, second.attempts) == (first.token + 1, attempts)


async def test_a_lost_lease_cannot_be_extended_or_released(database: Database) -> None:
    """The old holder is told that the fence refused, whatever it tries."""
    zombie = database.worker(NO_LEASE)
    old = await granted(zombie)
    await granted(database.worker())

    for attempt in (
        zombie.extend(old, 0.5),
        zombie.fail(old, "x", "y"),
        zombie.supersede(old),
        zombie.postpone(old, NO_LEASE, counted=True, reason="x", detail="y"),
        database.results.store(old, make_analysis()),
    ):
        with pytest.raises(LeaseLostError):
            await attempt
    assert await database.count("events") == 0
    assert (await database.row(old.analysis_id))["state"] == "processing"


async def test_an_expired_lease_that_nobody_took_is_still_ours(database: Database) -> None:
    """A late beat saves the work; the token decides, not the clock."""
    worker = database.worker(NO_LEASE)
    held = await granted(worker)

    await worker.extend(held, 0.25)

    assert (await database.row(held.analysis_id))["progress"] == 0.25


async def test_store_is_all_or_nothing(database: Database) -> None:
    """One commit brings all rows, their counts and the state; the vectors read back."""
    held = await granted(database.worker())

    await database.results.store(held, make_analysis())

    row = await database.row(held.analysis_id)
    assert (row["state"], row["done_token"]) == ("done", held.token)
    assert (row["events_count"], row["embeddings_count"]) == (3, 2)
    assert await database.pool.fetchval("SELECT attributes FROM events WHERE seq = 2") == {"n": 2}
    stored = await database.pool.fetchval("SELECT embedding FROM embeddings LIMIT 1")
    assert stored.to_numpy().tolist() == [0.0625] * 256


async def test_the_database_refuses_rows_of_a_lost_lease(database: Database) -> None:
    """Even a worker that forgets the fence cannot commit: the deferred foreign key refuses."""
    zombie = await granted(database.worker(NO_LEASE))
    owner = await granted(database.worker())
    await database.results.store(owner, make_analysis())

    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.copy_records_to_table(
            "events",
            columns=results.EVENT_COLUMNS,
            records=results.event_rows(zombie, make_analysis().results.events),
        )
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await transaction.commit()
    assert await database.count("events") == 3


async def test_uncommitted_rows_do_not_block_the_next_owner(database: Database) -> None:
    """A worker frozen in the middle of its COPY holds nothing that its successor needs."""
    frozen = await granted(database.worker(NO_LEASE))
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.copy_records_to_table(
            "events",
            columns=results.EVENT_COLUMNS,
            records=results.event_rows(frozen, make_analysis().results.events),
        )
        owner = await granted(database.worker())
        async with asyncio.timeout(5):
            await database.results.store(owner, make_analysis())
        await connection.execute("DELETE FROM events WHERE lease_token = $1", frozen.token)

    assert await database.count("events") == 3


async def test_a_beat_that_waited_for_our_commit_is_no_lost_lease(database: Database) -> None:
    """`done` under our own token does not cancel the worker that just committed it."""
    worker = database.worker()
    held = await granted(worker)
    await database.results.store(held, make_analysis())

    await worker.extend(held, 0.5)

    assert (await database.row(held.analysis_id))["progress"] == 1.0


async def test_terminal_states_are_told(database: Database) -> None:
    """Done, failed and superseded videos are not claimed again."""
    worker = database.worker()
    done, failed, superseded = [await granted(worker, key=key) for key in ("1a", "2a", "3a")]
    await database.results.store(done, make_analysis())
    await worker.fail(failed, "too_long", "it is too long")
    await worker.supersede(superseded)

    found = [
        await claim(database.worker(), make_delivery("other"), key=k) for k in ("1a", "2a", "3a")
    ]

    assert found == [
        Terminal("done", "m", 1, None, None),
        Terminal("failed", "m", 1, "too_long", "it is too long"),
        Terminal("superseded", "m", 1, "superseded", "the object was overwritten"),
    ]


async def test_a_redriven_message_revives_a_failed_video(database: Database) -> None:
    """A message from the DLQ starts over with its attempts; its own redelivery does not."""
    worker = database.worker()
    first = await granted(worker)
    await worker.fail(first, "x", "y")
    redriven = make_delivery("redriven", is_redriven=True)

    second = await granted(worker, redriven)
    await worker.fail(second, "x", "y")
    third = await claim(worker, make_delivery("redriven", is_redriven=True))

    assert (second.token, second.attempts) == (first.token + 1, 1)
    assert isinstance(third, Terminal)


async def test_a_new_revision_ends_what_is_left_of_the_old(database: Database) -> None:
    """An overwritten object's unfinished analysis is superseded; one that is held is left."""
    worker = database.worker()
    waiting = await granted(worker, revision="r1")
    await worker.postpone(waiting, LEASE, counted=True, reason="x", detail="y")
    held = await granted(worker, revision="r2")

    await granted(worker, revision="r3")

    assert (await database.row(waiting.analysis_id))["state"] == "superseded"
    assert (await database.row(held.analysis_id))["state"] == "processing"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([None, ("84", Source.BODY)], ("84", "body")),
        ([("84", Source.BODY), None], ("84", "body")),
        ([("7", Source.KEY), ("84", Source.BODY)], ("84", "body")),
        ([("84", Source.BODY), ("7", Source.KEY)], ("84", "body")),
        ([("7", Source.FILENAME), ("8", Source.KEY), ("9", Source.FILENAME)], ("8", "key")),
        ([("7", Source.KEY), ("9", Source.ATTRIBUTE)], ("9", "attribute")),
        ([("9", Source.ATTRIBUTE), ("84", Source.BODY)], ("84", "body")),
    ],
)
async def test_the_strongest_id_stays(
    database: Database, ids: list[tuple[str, Source] | None], expected: tuple[str, str]
) -> None:
    """Whichever message comes first, the strongest source is bound in the end."""
    worker = database.worker()

    for offered in ids:
        value, source = offered or (None, Source.BODY)
        await worker.bind(make_request(video_id=value, source=source))

    row = await database.pool.fetchrow("SELECT external_id, external_id_source FROM videos")
    assert row is not None
    assert tuple(row) == expected


async def test_two_stated_ids_conflict(database: Database) -> None:
    """The second of two contradicting ids is refused and changes nothing."""
    worker = database.worker()
    await worker.bind(make_request(video_id="84"))

    with pytest.raises(PermanentError) as refused:
        await worker.bind(make_request(video_id="85"))

    assert refused.value.reason == "identity_conflict"
    assert await database.pool.fetchval("SELECT external_id FROM videos") == "84"


async def test_the_timeline_shows_the_newest_done_revision(database: Database) -> None:
    """An unfinished or failed newer revision hides nothing; a restored object shows its own."""
    worker = database.worker()
    await database.results.store(await granted(worker, revision="r1"), make_analysis(events=1))
    await database.results.store(await granted(worker, revision="r2"), make_analysis(events=2))
    await worker.fail(await granted(worker, revision="r3"), "x", "y")

    shown = await database.count("timeline")
    latest = await database.pool.fetch("SELECT revision, state FROM latest_analyses")
    # The object gets its first bytes again.
    await claim(worker, revision="r1", modified_at=uploaded(9))

    assert shown == 2
    assert [tuple(row) for row in latest] == [("r3", "failed")]
    assert await database.count("timeline") == 1


async def test_a_slow_claim_of_an_old_revision_does_not_end_the_new_one(
    database: Database,
) -> None:
    """The upload's time decides which revision is older, not the claim's."""
    worker = database.worker()
    current = await granted(worker, revision="r2")
    await worker.postpone(current, NO_LEASE, counted=False, reason="x", detail="y")

    await granted(database.worker(), revision="r1")

    assert (await granted(worker, revision="r2")).analysis_id == current.analysis_id


async def test_bytes_that_come_back_are_analysed(database: Database) -> None:
    """A superseded revision that is uploaded again is claimed; a late message for it is not."""
    worker = database.worker()
    old = await granted(worker, revision="r1")
    await worker.supersede(old)

    late = await claim(worker, revision="r1")
    again = await claim(worker, revision="r1", modified_at=uploaded(9))

    assert isinstance(late, Terminal)
    assert isinstance(again, Claimed)
    assert (again.token, again.attempts) == (old.token + 1, 1)


async def test_progress_starts_over(database: Database) -> None:
    """A new attempt does not show how far the last one was."""
    worker = database.worker()
    first = await granted(worker)
    await worker.extend(first, 0.9)
    await worker.postpone(first, NO_LEASE, counted=False, reason="x", detail="y")

    await granted(worker)

    assert (await database.row(first.analysis_id))["progress"] == 0


async def test_an_attempt_that_could_not_be_given_back_is_not_counted(database_url: str) -> None:
    """Postgres was away when the work was given up: the same worker's next claim is free."""
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        worker = Claims(connections, owner="w", lease=NO_LEASE, pipeline="p")
        first = await granted(worker)
        proxy.cut()
        with pytest.raises(UnavailableError):
            await worker.postpone(first, NO_LEASE, counted=False, reason="x", detail="y")
        proxy.restore()

        second = await granted(worker)
        third = await granted(worker)

    assert (second.token, second.attempts) == (first.token + 1, 1)
    assert third.attempts == 2


async def test_what_is_gone_fails_what_is_left_of_it(database: Database) -> None:
    """The unheld analysis of an object that cannot be had is failed; a held one is left."""
    worker = database.worker()
    waiting = await granted(worker, key="1a")
    await worker.postpone(waiting, LEASE, counted=False, reason="x", detail="y")
    held = await granted(worker, key="2a")

    for key in ("1a", "2a"):
        await worker.fail_unheld(make_request(key=key), "object_missing", "gone", "m")

    failed = await database.row(waiting.analysis_id)
    assert (failed["state"], failed["error_code"]) == ("failed", "object_missing")
    assert (await database.row(held.analysis_id))["state"] == "processing"


async def test_a_lost_reply_to_the_commit_is_read_back(database: Database) -> None:
    """Stored is stored, even if nobody said so."""

    class LostReply(results.Results):
        """Writes and commits on its own, then loses the connection."""

        async def _write(self, connection: pool.Connection, *arguments: Any) -> None:
            await super()._write(connection, *arguments)
            await connection.execute("COMMIT")
            raise UnavailableError("postgres", "the reply is lost")

    held = await granted(database.worker())

    await LostReply(database.pool).store(held, make_analysis())

    assert (await database.row(held.analysis_id))["state"] == "done"
    assert await database.count("events") == 3


async def test_two_pipelines_keep_their_results_apart(database: Database) -> None:
    """A new pipeline analyses what another one has finished."""
    await database.results.store(await granted(database.worker()), make_analysis())

    again = await granted(database.worker(pipeline="q"))

    assert again.token == 1
