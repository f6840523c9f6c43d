"""What `docs/applications.md` says an application may ask, asked by one."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.stalled import store_analysis

from poller.local import postgres
from poller.postgres.migrations import migrate
from poller.postgres.pool import Connection

DOCUMENT = (Path(__file__).parents[2] / "docs" / "applications.md").read_text("utf-8")
ROLE, *STATEMENTS = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an administrator: whose login the tests have else may not make another."""
    started = postgres.start(tmp_path_factory.mktemp("server") / "postgres.log")
    asyncio.run(migrate(started.url))
    yield started.url
    started.server.stop()


@pytest.fixture
async def application(server: str) -> AsyncIterator[Connection]:
    """A connection with the login of the document, to a database with results of its video."""
    connection = await asyncpg.connect(server)
    await connection.execute("BEGIN")
    analysis_id = await store_analysis(
        connection, "videos/84/holiday.mp4", "done", bucket="videos", external_id="84"
    )
    await connection.execute(
        "INSERT INTO events (analysis_id, lease_token, seq, event_type, start_ms, end_ms)"
        " VALUES ($1, 1, 1, 'person', 80000, 90000)",
        analysis_id,
    )
    await connection.execute(f"{ROLE}; SET ROLE shop")
    yield connection
    await connection.close()  # nothing was committed


@pytest.mark.parametrize("statement", STATEMENTS, ids=["done", "who", "when"])
async def test_an_application_may_ask(application: Connection, statement: str) -> None:
    """Each statement finds the video, with no more rights than those that the document gives."""
    assert len(await application.fetch(statement)) == 1


async def test_an_application_changes_nothing(application: Connection) -> None:
    """It may read."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("DELETE FROM events")
