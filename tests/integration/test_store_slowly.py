"""A Postgres that is there and slow: storing waits by the number of rows, and not for ever."""

import asyncio

import pytest
from tests.clips import make_clip
from tests.integration.conftest import Systems
from tests.integration.test_claims import Database, granted, make_analysis
from tests.integration.test_pipeline import run

from inference.device import Device
from poller.errors import RetryableError, UnavailableError
from poller.postgres import pool
from poller.postgres.results import Patience, Results
from poller.rules.verdict import Failed, Outcome, Postponed


async def slow_down(connections: pool.Pool, seconds: float) -> None:
    """Let each embedding take so long from now on."""
    await connections.execute(
        "CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN new; END $$"
    )
    await connections.execute(
        "CREATE OR REPLACE TRIGGER dawdle BEFORE INSERT ON embeddings"
        " FOR EACH ROW EXECUTE FUNCTION dawdle()"
    )


async def test_many_rows_may_take_longer(connections: pool.Pool) -> None:
    """The limit of a statement grows with the rows, whatever the connection's own is."""
    await slow_down(connections, 0.02)
    held = await granted(Database(connections).worker())
    patient = Results(connections, Patience(base_seconds=0.2, row_seconds=1))

    await patient.store(held, make_analysis(embeddings=50))

    assert await connections.fetchval("SELECT count(*) FROM embeddings") == 50


async def test_too_slow_is_no_outage(connections: pool.Pool) -> None:
    """It is a failure that may be the video's own; nothing is stored, and the lease is kept."""
    await slow_down(connections, 0.5)
    database = Database(connections)
    held = await granted(database.worker())
    hasty = Results(connections, Patience(base_seconds=0.2, row_seconds=0))

    with pytest.raises(RetryableError, match="store_timeout"):
        await hasty.store(held, make_analysis())

    assert (await database.row(held.analysis_id))["state"] == "processing"
    assert await database.count("events") == 0
    await database.worker().extend(held, 0.5)


async def test_a_statement_that_somebody_cancels_is_an_outage(connections: pool.Pool) -> None:
    """It says nothing about the video: no attempt is counted."""
    await slow_down(connections, 30)
    held = await granted(Database(connections).worker())
    cancel = (
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )

    storing = asyncio.create_task(Results(connections).store(held, make_analysis()))
    async with asyncio.timeout(20):
        while not await connections.fetchval(cancel):  # noqa: ASYNC110 - a view has no event
            await asyncio.sleep(0.05)

    with pytest.raises(UnavailableError):
        await storing


async def test_a_video_that_cannot_be_stored_fails_in_the_end(systems: Systems) -> None:
    """Its attempts are counted and run out; as an outage it would be retried for ever."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=1)
    await systems.upload("k", clip.read_bytes())
    await slow_down(systems.connections, 0.5)
    device, outcomes = Device("cpu"), list[Outcome]()

    for _ in range(3):
        outcomes.append(await run(systems, device, patience=Patience(0.2, 0)))
        await systems.connections.execute("UPDATE analyses SET not_before = NULL")
    await device.close()

    assert [type(outcome) for outcome in outcomes] == [Postponed, Postponed, Failed]
    assert outcomes[0].cause == outcomes[2].reason == "store_timeout"  # type: ignore[union-attr] # by the line before
    row = await systems.connections.fetchrow("SELECT state, attempts, error_code FROM analyses")
    assert row is not None
    assert tuple(row) == ("failed", 3, "store_timeout")
