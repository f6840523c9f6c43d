"""Which revision of an object counts: uploads are ordered, whatever the order of the claims."""

from datetime import datetime

import pytest
from tests.integration.test_claims import (
    LEASE,
    NO_LEASE,
    Database,
    claim,
    granted,
    make_analysis,
    uploaded,
)

from poller.postgres.claims import Claimed, Terminal
from poller.postgres.pool import Pool


async def postpone(database: Database, held: Claimed) -> None:
    """Give a claim up, to be taken again later."""
    await database.worker().postpone(held, LEASE, counted=True, reason="x", detail="y")


async def modified_at(database: Database) -> datetime:
    """When the only revision that there is was uploaded, as far as is known."""
    (row,) = await database.pool.fetch("SELECT object_modified_at FROM analyses")
    found: datetime = row["object_modified_at"]
    return found


async def test_a_dead_workers_old_revision_ends(connections: Pool) -> None:
    """A new revision ends an older one whose lease ran out: nobody will ever finish it."""
    database = Database(connections)
    abandoned = await granted(database.worker(NO_LEASE), revision="r1")

    await granted(database.worker(), revision="r2")

    assert (await database.row(abandoned.analysis_id))["state"] == "superseded"


async def test_a_new_revision_ends_nothing_of_others(connections: Pool) -> None:
    """What waits of another object or for another pipeline goes on waiting."""
    database = Database(connections)
    neighbour = await granted(database.worker(), key="other.mp4")
    elsewhere = await granted(database.worker(pipeline="q"))
    for held in (neighbour, elsewhere):
        await postpone(database, held)

    await granted(database.worker(), revision="r2")

    states = [(await database.row(held.analysis_id))["state"] for held in (neighbour, elsewhere)]
    assert states == ["retry", "retry"]


async def test_uploads_of_one_second_do_not_end_each_other(connections: Pool) -> None:
    """S3 tells whole seconds: which of the two is the newer one is not known."""
    database = Database(connections)
    first = await granted(database.worker(), revision="r1")
    await postpone(database, first)

    second = await claim(database.worker(), revision="r2", modified_at=uploaded(1))

    assert isinstance(second, Claimed)
    assert (await database.row(first.analysis_id))["state"] == "retry"


@pytest.mark.parametrize("is_done", [True, False])
async def test_the_time_of_an_upload_only_moves_on(connections: Pool, *, is_done: bool) -> None:
    """Bytes that come back are the newest again, and a late message does not age them."""
    database, times = Database(connections), []
    worker = database.worker(NO_LEASE)
    first = await granted(worker, revision="r1")
    if is_done:
        await database.results.store(first, make_analysis())

    for second in (9, 3):
        await claim(worker, revision="r1", modified_at=uploaded(second))
        times.append(await modified_at(database))

    assert times == [uploaded(9), uploaded(9)]


async def test_the_latest_analysis_is_that_of_the_latest_upload(connections: Pool) -> None:
    """An old revision that is claimed late is not shown as the latest."""
    database = Database(connections)
    await granted(database.worker(), revision="r2")

    await granted(database.worker(), revision="r1")

    shown = await database.pool.fetch("SELECT revision FROM latest_analyses")
    assert [row["revision"] for row in shown] == ["r2"]


@pytest.mark.parametrize("end", ["given back", "killed"])
async def test_what_ends_after_the_new_revision_is_done(connections: Pool, end: str) -> None:
    """The old revision's own message finds the new one done, and ends what nobody else would."""
    database = Database(connections)
    old = await granted(database.worker(), revision="r1")
    new = await granted(database.worker(), revision="r2")
    await database.results.store(new, make_analysis())
    if end == "given back":
        await postpone(database, old)
    else:
        await database.worker(NO_LEASE).extend(old, 0.0)

    found = await claim(database.worker(), revision="r2")  # by HeadObject, whatever it announced

    assert isinstance(found, Terminal)
    assert (await database.row(old.analysis_id))["state"] == "superseded"
