"""Running `poller` as people and deployments do, and what its commands find and leave."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from poller.local.resources import Clients


def run_poller(
    environment: Mapping[str, str],
    *arguments: str,
    cwd: Path | None = None,
    columns: int | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end and return its exit code and output."""
    # GNU readline, which pytest loads, puts the width of a terminal into the environment.
    inherited = {name: value for name, value in environment.items() if name != "COLUMNS"}
    width = {} if columns is None else {"COLUMNS": str(columns)}
    return subprocess.run(
        [sys.executable, "-m", "poller", *arguments],
        env={**inherited, **width, "PYTHONPATH": str(Path("src").resolve())},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        cwd=cwd,
    )


async def store_video(
    database: "asyncpg.Connection[asyncpg.Record]", key: str, state: str, external_id: str
) -> None:
    """A video with one analysis in `state`, with one event where that is `done`."""
    video_id = await database.fetchval(
        "INSERT INTO videos (bucket, object_key, external_id, external_id_source)"
        " VALUES ('b', $1, $2, 'body') RETURNING id",
        key,
        external_id,
    )
    token = 1 if state == "done" else None
    analysis_id = await database.fetchval(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, done_token, object_modified_at, error_code,"
        " error_message)"
        " VALUES ($1, 'r', 'p', $2, 1, gen_random_uuid(), 'o', now(), 1, $3, now(),"
        " CASE WHEN $2 = 'failed' THEN 'not_a_video' END,"
        " CASE WHEN $2 = 'failed' THEN 'it is a text' END) RETURNING id",
        video_id,
        state,
        token,
    )
    if token is not None:
        await database.execute(
            "INSERT INTO events (analysis_id, lease_token, seq, event_type, start_ms, end_ms)"
            " VALUES ($1, 1, 0, 'black', 1500, 65250)",
            analysis_id,
        )


async def send_letter(clients: Clients, dlq: str, body: str, reason: str) -> None:
    """A dead letter as the service writes it, with an attribute of the sender."""
    await clients.sqs.send_message(
        QueueUrl=dlq,
        MessageBody=body,
        MessageAttributes={
            "reason": {"DataType": "String", "StringValue": reason},
            "detail": {"DataType": "String", "StringValue": "a sentence"},
            "attempts": {"DataType": "Number", "StringValue": "3"},
            "tenant": {"DataType": "String", "StringValue": "t1"},
        },
    )


async def receive_all(clients: Clients, url: str) -> list[dict[str, Any]]:
    """Every message that is visible in the queue now, with its attributes."""
    found: list[dict[str, Any]] = []
    while True:
        reply = await clients.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
        )
        if not reply.get("Messages"):
            return found
        found.extend(dict(message) for message in reply["Messages"])


async def count_all(clients: Clients, url: str) -> int:
    """How many messages the queue holds, those that are hidden included."""
    described = await clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    counts = described["Attributes"]
    return int(counts["ApproximateNumberOfMessages"]) + int(
        counts["ApproximateNumberOfMessagesNotVisible"]
    )
