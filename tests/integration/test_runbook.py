"""The runbook's SQL, on a real database: it runs, and it shows what it is for."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from tests.stalled import HOUR, store_analysis

from poller.postgres.pool import Connection

RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text("utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", RUNBOOK, re.DOTALL)
KEY = "videos/84/holiday.mp4"


@pytest.mark.parametrize("statement", STATEMENTS, ids=[s.split("\n", 1)[0] for s in STATEMENTS])
async def test_a_statement_shows_what_it_is_for(database: Connection, statement: str) -> None:
    """In a database with a video in each kind of trouble, none comes back empty or fails."""
    bucket = "videos"
    await store_analysis(database, KEY, "retry", bucket=bucket, external_id="84", idle=3 * HOUR)
    for state in ("processing", "failed", "done"):
        await store_analysis(database, f"{state}.mp4", state, bucket=bucket, idle=timedelta(0))
    await database.execute(
        "UPDATE analyses SET lease_token = 9, device_faults = 2, duration_seconds = 60,"
        " created_at = now() - interval '2 hours', done_token = done_token + 8,"
        " done_at = CASE WHEN state IN ('done', 'failed') THEN now() END"
    )
    await database.execute("SET application_name = 'video-poller'")

    touched = await database.execute(statement)

    assert int(touched.split()[-1]) > 0 or "xact_start" in statement


def test_statements_are_found() -> None:
    """A change of the runbook's form must not leave nothing to test."""
    assert len(STATEMENTS) >= 10
