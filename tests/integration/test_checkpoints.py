"""Checkpoints in Postgres: under the fence, in order, and gone with the work."""

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from prometheus_client import REGISTRY
from tests.integration.conftest import opened_pool
from tests.integration.test_claims import Database, claim, granted, make_delivery
from tests.proxy import proxied

from inference.checkpoint import JournalFullError, Part
from poller.errors import UnavailableError
from poller.postgres import pool
from poller.postgres.checkpoints import PART_BYTES
from poller.postgres.claims import Claimed
from poller.postgres.results import Results

NO_LEASE = timedelta(0)


@pytest.fixture
def database(connections: pool.Pool) -> Database:
    """This test's database behind the service's own pool."""
    return Database(connections)


def make_part(number: int, position_ms: float = 40.25, text: str = "") -> Part:
    """A part whose bytes tell which it is."""
    return Part(number, position_ms, f"stretch {number}{text}".encode(), f"carry {number}".encode())


async def load(database: Database, held: Claimed) -> list[tuple[int, bytes, bytes | None]]:
    """What the next worker would find."""
    parts = await database.results.journal(held).load()
    return [(part.number, part.stretch, part.carry) for part in parts]


async def test_parts_are_appended(database: Database) -> None:
    """Parts come back in order, and only the last one with its carry."""
    held = await granted(database.worker())
    journal = database.results.journal(held)

    kept = [await journal.save(make_part(number)) for number in range(3)]

    assert kept == [True, True, True]
    assert await load(database, held) == [
        (0, b"stretch 0", None),
        (1, b"stretch 1", None),
        (2, b"stretch 2", b"carry 2"),
    ]
    assert await database.pool.fetchval("SELECT position_ms FROM checkpoints LIMIT 1") == 40


async def test_a_part_replaces_what_follows_it(database: Database) -> None:
    """A run that began anew leaves nothing of the one before."""
    held = await granted(database.worker())
    journal = database.results.journal(held)
    for number in range(3):
        await journal.save(make_part(number))

    await journal.save(make_part(0, text=" again"))

    assert await load(database, held) == [(0, b"stretch 0 again", b"carry 0")]


async def test_getting_further_forgives_faults_of_the_device(database: Database) -> None:
    """Those before count no more; a part that only repeats what was measured forgives nothing."""
    worker, counted = database.worker(), []
    await database.results.journal(await granted(worker)).save(make_part(0))
    for number, position_ms in ((1, 40.25), (1, 41.25), (0, 30.0), (1, 41.0), (1, 42.0)):
        held = await granted_again(database)
        journal = database.results.journal(held)
        await journal.save(make_part(number, position_ms))
        faults = (await database.row(held.analysis_id))["device_faults"]
        counted.append((journal.has_advanced, faults))

    assert counted == [(False, 3), (True, 0), (False, 3), (True, 0), (True, 0)]


async def test_the_same_way_again_forgives_nothing(database: Database) -> None:
    """A run that can use no earlier part replaces them all, and is no further where they ended.

    Otherwise a frame behind them could break the device without end.
    """
    first = database.results.journal(await granted(database.worker()))
    for number in range(3):
        await first.save(make_part(number, 100.0 * number))
    counted = []
    for _ in range(2):
        held = await granted_again(database)
        journal = database.results.journal(held)
        await journal.load()
        for number in range(3):
            await journal.save(make_part(number, 100.0 * number))
        counted.append((await database.row(held.analysis_id))["device_faults"])
    await journal.save(make_part(3, 300.0))

    assert counted == [3, 3]
    assert (await database.row(held.analysis_id))["device_faults"] == 0


async def granted_again(database: Database) -> Claimed:
    """The next claim of the video, which has met three faults by now."""
    await database.pool.execute(
        "UPDATE analyses SET device_faults = 3, lease_expires_at = clock_timestamp()"
    )
    return await granted(database.worker(), make_delivery("n"))


async def test_a_former_holder_writes_nothing(database: Database) -> None:
    """Once the lease is another worker's, a part is not kept, and the journal says so."""
    former = await granted(database.worker(lease=NO_LEASE))
    await database.results.journal(former).save(make_part(0))
    holder = await granted(database.worker(), make_delivery("n"))

    late = await database.results.journal(former).save(make_part(1))

    assert late is False
    assert await load(database, holder) == [(0, b"stretch 0", b"carry 0")]


@pytest.mark.parametrize("end", ["failed", "superseded", "retry"])
async def test_they_go_with_the_work(database: Database, end: str) -> None:
    """Whatever ends an analysis ends its checkpoints; one that is given back keeps them."""
    worker = database.worker()
    held = await granted(worker)
    await database.results.journal(held).save(make_part(0))

    match end:
        case "failed":
            await worker.fail(held, "too_long", "it is too long")
        case "superseded":
            await worker.supersede(held)
        case _:
            await worker.postpone(held, timedelta(0), counted=False, reason="drain", detail="-")

    assert await database.count("checkpoints") == (1 if end == "retry" else 0)


async def test_those_of_an_overwritten_revision_go(database: Database) -> None:
    """A claim of a newer revision takes the older one's checkpoints away with it."""
    held = await granted(database.worker(lease=NO_LEASE))
    await database.results.journal(held).save(make_part(0))

    await claim(database.worker(), revision="r2")

    assert await database.count("checkpoints") == 0


async def test_a_part_that_is_too_large(database: Database) -> None:
    """It would not be saved in time, nor any that contains it: the last one before it stays."""
    held = await granted(database.worker())
    journal = database.results.journal(held)
    await journal.save(make_part(0))
    before = told()

    for _ in range(2):
        with pytest.raises(JournalFullError):
            await journal.save(replace(make_part(1), stretch=bytes(PART_BYTES + 1)))

    assert told() == before + 1
    assert await load(database, held) == [(0, b"stretch 0", b"carry 0")]


async def test_more_parts_than_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that is larger in all goes on without; its parts so far are there for the next run.

    A run that begins anew has room again.
    """
    monkeypatch.setattr("poller.postgres.checkpoints.TOTAL_BYTES", 20)
    held = await granted(database.worker())
    journal = database.results.journal(held)
    before = told()

    kept = [await journal.save(make_part(number)) for number in range(2)]
    with pytest.raises(JournalFullError):
        await journal.save(make_part(2))
    parts = await load(database, held)
    with pytest.raises(JournalFullError):
        await journal.save(make_part(2))
    anew = await journal.save(make_part(0, text="!"))

    assert kept == [True, True]
    assert [number for number, *_ in parts] == [0, 1]
    assert told() == before + 1
    assert anew
    assert await load(database, held) == [(0, b"stretch 0!", b"carry 0")]


async def test_more_parts_than_are_loaded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a version that kept more: the video is analysed from its beginning."""
    held = await granted(database.worker())
    former = database.results.journal(held)
    for number in range(3):
        await former.save(make_part(number, 100.0 * number))
    monkeypatch.setattr("poller.postgres.checkpoints.TOTAL_BYTES", 20)
    before = told()
    journal = database.results.journal(held)

    parts = await journal.load()
    kept = await journal.save(make_part(0, text="!"))

    assert list(parts) == []
    assert told() == before + 1
    assert kept
    assert not journal.has_advanced
    assert await load(database, held) == [(0, b"stretch 0!", b"carry 0")]


def told() -> float:
    """How many videos had more to keep than may be kept."""
    value = REGISTRY.get_sample_value("poller_errors_total", {"kind": "checkpoint_too_large"})
    assert value is not None
    return value


async def test_postgres_is_away(database_url: str, database: Database) -> None:
    """A part that cannot be written is no failure; parts that cannot be read are."""
    held = await granted(database.worker())
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        journal = Results(connections).journal(held)
        await journal.save(make_part(0))
        proxy.cut()

        kept = await journal.save(make_part(1))
        with pytest.raises(UnavailableError):
            await journal.load()

    assert kept is False
    assert len(await load(database, held)) == 1


async def test_a_claim_waits_for_a_part_on_its_way(database: Database, database_url: str) -> None:
    """A part that is being written when the lease is taken over is seen by its new holder."""
    former = await granted(database.worker(lease=NO_LEASE))
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    values = (former.analysis_id, former.token, 0, 40, b"late", b"carry", -1)
    await connection.execute(pool.query("save_checkpoint"), *values)

    async with database.pool.acquire() as rival:
        await rival.execute("SET lock_timeout = '300ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await rival.execute(
                "UPDATE analyses SET lease_token = lease_token + 1 WHERE id = $1",
                former.analysis_id,
            )
        await rival.execute("RESET lock_timeout")
    await transaction.commit()
    await connection.close()
    holder = await granted(database.worker(), make_delivery("n"))

    assert await load(database, holder) == [(0, b"late", b"carry")]
