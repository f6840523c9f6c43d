"""How long videos are nobody's: after SIGKILL of their worker, and after it gave them back."""

import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aioboto3
import asyncpg

from bench.material import make_video
from bench.measure import Measurement
from bench.stack import service

VIDEOS, SECONDS = 3, 120
LEASE_SECONDS = 10.0
_AFTER_KILL_SECONDS, _AFTER_DRAIN_SECONDS = LEASE_SECONDS + 35, 2.0
_SETTINGS = {
    "lease_seconds": f"{LEASE_SECONDS:g}",
    "heartbeat_seconds": "3",
    "visibility_seconds": "60",
    "drain_seconds": "13",
    "max_concurrent_videos": str(VIDEOS),
    "sample_fps": "all",
    "device": "cpu",
}
_STATES = "SELECT id, lease_token AS token, state FROM analyses WHERE revision = $1"


async def measure(directory: Path) -> list[Measurement]:
    """A second worker waits at the queue; each time is the longest of three videos."""
    path = make_video(directory / "takeover.mp4", seconds=SECONDS, size="640x360")
    killed = await _take_over(path, signal.SIGKILL)
    path = make_video(directory / "takeover.mp4", seconds=SECONDS, seed=1, size="640x360")
    drained = await _take_over(path, signal.SIGTERM)
    return [
        Measurement(
            f"taken over after SIGKILL, against a lease of {LEASE_SECONDS:g} s and 35 s",
            *(killed, _AFTER_KILL_SECONDS, "s", 1, "at most"),
        ),
        Measurement(
            "taken over after a drain, against 2 s",
            *(drained, _AFTER_DRAIN_SECONDS, "s", 1, "at most"),
        ),
    ]


async def _take_over(path: Path, end: signal.Signals) -> float:
    bucket, queue = os.environ["POLLER_RAW_BUCKET"], os.environ["POLLER_QUEUE_URL"]
    session = aioboto3.Session()
    async with session.client("s3") as s3, session.client("sqs") as sqs, AsyncExitStack() as stack:
        database = await asyncpg.connect(os.environ["POLLER_DATABASE_URL"])
        stack.push_async_callback(database.close)
        made = await sqs.create_queue(QueueName=queue.rpartition("/")[2] + f"-{end.name.lower()}")
        url = made["QueueUrl"]
        keys = [f"takeover/{end.name}/{number}.x.mp4" for number in range(VIDEOS)]
        for key in keys:
            await s3.upload_file(str(path), bucket, key)
        head = await s3.head_object(Bucket=bucket, Key=keys[0])
        revision = head["ETag"].strip('"')
        first = await stack.enter_async_context(service(queue_url=url, **_SETTINGS))
        for key in keys:
            body = json.dumps({"bucket": bucket, "key": key})
            await sqs.send_message(QueueUrl=url, MessageBody=body)
        await _wait_until_held(database, revision)
        await stack.enter_async_context(service(queue_url=url, **_SETTINGS))
        os.kill(first, end)
        killed_at = time.monotonic() if end is signal.SIGKILL else None
        return await _longest_wait(database, revision, killed_at)


async def _wait_until_held(database: "asyncpg.Connection[asyncpg.Record]", revision: str) -> None:
    async with asyncio.timeout(60):
        while True:
            rows = await database.fetch(_STATES, revision)
            if [row["state"] for row in rows] == ["processing"] * VIDEOS:
                return
            await asyncio.sleep(0.05)


async def _longest_wait(
    database: "asyncpg.Connection[asyncpg.Record]", revision: str, killed_at: float | None
) -> float:
    """Seconds from the kill, or from when a video was given back, to the next claim."""
    free_since: dict[int, float] = {}
    waits: dict[int, float] = {}
    async with asyncio.timeout(120):
        while len(waits) < VIDEOS:
            now = time.monotonic()
            for row in await database.fetch(_STATES, revision):
                if row["token"] > 1:
                    since = free_since.get(row["id"], now)  # free for less than one look
                    waits.setdefault(row["id"], now - since)
                elif killed_at is not None or row["state"] == "retry":
                    free_since.setdefault(row["id"], killed_at or now)
            await asyncio.sleep(0.01)
    return max(waits.values())
