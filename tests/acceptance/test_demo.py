"""`poller demo`: the whole of it, on servers that the environment names."""

import os
from pathlib import Path

import asyncpg
from tests.commands import run_poller

from poller.local.resources import Clients


async def test_demo_finds_every_result_and_leaves_nothing(
    aws: dict[str, str], postgres_url: str, clients: Clients, tmp_path: Path
) -> None:
    """Each upload gives one result under its id; named servers are left as they were found."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("POLLER_")
    }

    shown = run_poller(
        {**inherited, **aws, "POLLER_DATABASE_URL": postgres_url, "POLLER_DEVICE": "cpu"},
        "demo",
        cwd=tmp_path,
    )

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "✓ every expected result is there" in shown.stdout
    assert "8 duplicate announcements counted" in shown.stdout
    assert "in the DLQ: not_a_video" in shown.stdout
    buckets = await clients.s3.list_buckets()
    assert not [b for b in buckets["Buckets"] if b["Name"].startswith("poller-")]
    queues = await clients.sqs.list_queues(QueueNamePrefix="poller-")
    assert "QueueUrls" not in queues
    connection = await asyncpg.connect(postgres_url)
    left = await connection.fetch("SELECT 1 FROM pg_database WHERE datname LIKE 'poller-%'")
    await connection.close()
    assert left == []
