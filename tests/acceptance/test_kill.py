"""SIGKILL at each arrow of the flow: one result, no lost message.

The service has no hook for this. A proxy recognises the request at which an arrow begins or ends
and holds it, or the reply to it; so the service stands still right there, and is killed.
"""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.proxy import Proxy, proxied
from tests.running import Service, running

from poller.local.resources import Clients, QueuePair, take_test_event

QUICK = {
    "lease_seconds": "3",
    "heartbeat_seconds": "1",
    "visibility_seconds": "33",
    # The poll for a second video would outlive its worker, and be given the message.
    "max_concurrent_videos": "1",
}
ADDRESSES = {
    "postgres": "POLLER_DATABASE_URL",
    "s3": "AWS_ENDPOINT_URL_S3",
    "sqs": "AWS_ENDPOINT_URL_SQS",
}
DELETE, SEND = b"AmazonSQS.DeleteMessage", b"AmazonSQS.SendMessage"
FENCE = b"SET state = 'done'"
COMMIT = b"COMMIT;\x00"  # the message; comments in other statements have the word too


@dataclass(frozen=True, slots=True)
class Arrow:
    """Where the service stands still: which system's proxy holds what."""

    name: str
    system: str
    hold: Callable[[Proxy, bytes], None]
    """Given the proxy, and the object's revision, which only the claim sends as a value."""
    attempts: int = 2
    """Counted in the end: two, where the killed worker had the claim and no result."""


ARROWS = [
    Arrow("received", "postgres", lambda p, _: p.hold_requests_at(b"INSERT INTO videos"), 1),
    Arrow("claimed, unaware", "postgres", lambda p, revision: p.hold_replies_at(revision)),
    Arrow("claimed", "s3", lambda p, _: p.hold_requests_at(b"GET /")),
    Arrow("fetching", "s3", lambda p, _: p.hold_after(100_000)),
    Arrow("copied", "postgres", lambda p, _: p.hold_requests_at(FENCE)),
    Arrow("fenced", "postgres", lambda p, _: p.hold_requests_at(COMMIT)),
    Arrow("committed, unaware", "postgres", lambda p, _: p.hold_replies_at(COMMIT), 1),
    Arrow("committed", "sqs", lambda p, _: p.hold_requests_at(DELETE), 1),
    Arrow("deleted, unaware", "sqs", lambda p, _: p.hold_replies_at(DELETE), 1),
]


class Clock:
    """Lets a message that a killed worker has hidden come back before its time."""

    def __init__(self, shop: Shop, clients: Clients, queue: str) -> None:
        self._shop = shop
        self._sqs = clients.sqs
        self._queue = queue
        self._receipt = ""

    async def start(self) -> None:
        """Note a receipt of the one message that is there, and leave it visible.

        The emulator lets an old receipt act on what another consumer holds; so this is a clock.
        """
        reply = await self._sqs.receive_message(
            QueueUrl=self._queue, VisibilityTimeout=0, WaitTimeSeconds=5
        )
        self._receipt = reply["Messages"][0]["ReceiptHandle"]

    async def run_out(self) -> None:
        """Wait for the end of all leases, and have the message at once."""
        async with asyncio.timeout(20):
            while await self._shop.database.fetchval(  # noqa: ASYNC110 - the database's clock
                "SELECT true FROM analyses"
                " WHERE state = 'processing' AND lease_expires_at > clock_timestamp()"
            ):
                await asyncio.sleep(0.1)
        if await self._shop.depth() != (0, 0):
            await self._sqs.change_message_visibility(
                QueueUrl=self._queue, ReceiptHandle=self._receipt, VisibilityTimeout=0
            )


@pytest.fixture
async def clock(shop: Shop, clients: Clients, queues: QueuePair, announced_bucket: str) -> Clock:
    """For the one message of a test: that of another bucket's notification is taken away."""
    assert announced_bucket
    await take_test_event(clients.sqs, queues)
    return Clock(shop, clients, queues.url)


@asynccontextmanager
async def standing_still(
    environment: dict[str, str], system: str, hold: Callable[[Proxy], None]
) -> AsyncIterator[tuple[Service, Proxy]]:
    """A service that has come to the place where `hold` stops it, and its proxy."""
    variable = ADDRESSES[system]
    target = environment.get(variable, environment["AWS_ENDPOINT_URL"])
    async with proxied(target) as (url, proxy):
        hold(proxy)
        async with running({**environment, variable: url}, **QUICK) as service:
            await proxy.held()
            yield service, proxy


async def rows(shop: Shop, key: str) -> tuple[list[str], list[str], set[int]]:
    """Events and embeddings of a key without their analysis, and the tokens they are under."""
    found: list[list[str]] = []
    tokens = set[int]()
    for table in ("events", "embeddings"):
        records = await shop.database.fetch(
            "SELECT t.lease_token, (to_jsonb(t) - 'analysis_id' - 'lease_token')::text AS row"  # noqa: S608 - two names
            f" FROM {table} t JOIN analyses a ON a.id = t.analysis_id"
            " JOIN videos v ON v.id = a.video_id WHERE v.object_key = $1 ORDER BY seq",
            key,
        )
        found.append([record["row"] for record in records])
        tokens |= {record["lease_token"] for record in records}
    return found[0], found[1], tokens


async def check_one_result(shop: Shop, key: str, attempts: int) -> None:
    """The rows are those of `undisturbed.x.mp4`, once; nothing is left in queue or DLQ."""
    row = await shop.analysis(key)
    events, embeddings, tokens = await rows(shop, key)
    expected_events, expected_embeddings, _ = await rows(shop, "undisturbed.x.mp4")
    assert (row["state"], row["attempts"]) == ("done", attempts)
    assert events == expected_events
    assert embeddings == expected_embeddings
    assert len(embeddings) > 0
    assert len(tokens) == 1
    assert await shop.depth() == (0, 0)
    assert await shop.depth(dlq=True) == (0, 0)


async def finish(shop: Shop, environment: dict[str, str], clock: Clock, key: str) -> None:
    """Another worker does what is left, and then an undisturbed copy of the same bytes."""
    await clock.run_out()
    is_deleted = await shop.depth() == (0, 0)
    async with running(environment, **QUICK) as service:
        if not is_deleted:
            await service.logged("video.finished", key=key, verdict="ack")
        await shop.announce("undisturbed.x.mp4")
        await service.logged("video.finished", key="undisturbed.x.mp4", verdict="ack")
        await service.stop()


@pytest.mark.parametrize("arrow", ARROWS, ids=lambda arrow: arrow.name)
async def test_killed_at(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, clock: Clock, arrow: Arrow
) -> None:
    """Whichever arrow it was, the next worker leaves one result and no message."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=6, size="640x360")
    for key in ("a.mp4", "undisturbed.x.mp4"):
        await shop.upload(clip, key)
    await shop.announce("a.mp4", 84)
    await clock.start()

    revision = hashlib.md5(clip.read_bytes(), usedforsecurity=False).hexdigest().encode()

    async with standing_still(
        settings_env, arrow.system, lambda proxy: arrow.hold(proxy, revision)
    ) as (service, proxy):
        await service.stop(signal.SIGKILL)
        proxy.cut()
    await finish(shop, settings_env, clock, "a.mp4")

    await check_one_result(shop, "a.mp4", arrow.attempts)


async def test_killed_while_decoding(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, clock: Clock
) -> None:
    """No request marks this place; a decoder that lives does."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=40, size="640x360")
    for key in ("a.mp4", "undisturbed.x.mp4"):
        await shop.upload(clip, key)
    await shop.announce("a.mp4", 84)
    await clock.start()

    async with running(settings_env, **QUICK, sample_fps="all") as service:
        await service.started_decoding()
        service.freeze_decoders()
        await service.stop(signal.SIGKILL)
    await finish(shop, settings_env, clock, "a.mp4")

    await check_one_result(shop, "a.mp4", attempts=2)


async def test_a_fence_that_nobody_releases(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, clock: Clock
) -> None:
    """Dead behind a connection that stays open, with its row locked: Postgres ends its session."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=2)
    for key in ("a.mp4", "undisturbed.x.mp4"):
        await shop.upload(clip, key)
    await shop.announce("a.mp4", 84)
    await clock.start()

    async with standing_still(
        settings_env, "postgres", lambda proxy: proxy.hold_requests_at(COMMIT)
    ) as (service, _):
        await service.stop(signal.SIGKILL)
        await finish(shop, settings_env, clock, "a.mp4")

    await check_one_result(shop, "a.mp4", attempts=2)


async def test_a_lost_reply_to_the_commit(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, clock: Clock
) -> None:
    """The worker that lives reads back what it stored: one attempt, and the message is deleted."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=2)
    for key in ("a.mp4", "undisturbed.x.mp4"):
        await shop.upload(clip, key)
    await shop.announce("a.mp4", 84)
    await clock.start()

    async with standing_still(
        settings_env, "postgres", lambda proxy: proxy.hold_replies_at(COMMIT)
    ) as (service, proxy):
        proxy.cut()
        proxy.restore()
        await service.logged("video.finished", outcomes=("stored",), verdict="ack")
        await service.stop()
    await finish(shop, settings_env, clock, "a.mp4")

    await check_one_result(shop, "a.mp4", attempts=1)


@pytest.mark.parametrize(("marker", "letters"), [(SEND, 1), (DELETE, 2)], ids=["failed", "sent"])
async def test_killed_on_the_way_to_the_dlq(
    shop: Shop,
    settings_env: dict[str, str],
    tmp_path: Path,
    clock: Clock,
    marker: bytes,
    letters: int,
) -> None:
    """A failure reaches the DLQ at least once, always with its reason, and is not tried again."""
    junk = tmp_path / "junk.mp4"
    junk.write_text("this is no video\n" * 500)
    await shop.upload(junk, "a.mp4")
    await shop.announce("a.mp4", 84)
    await clock.start()

    async with standing_still(
        settings_env, "sqs", lambda proxy: proxy.hold_requests_at(marker)
    ) as (service, proxy):
        await service.stop(signal.SIGKILL)
        proxy.cut()
    await clock.run_out()
    async with running(settings_env, **QUICK) as service:
        await service.logged("video.finished", verdict="deadletter")
        await service.stop()

    found: list[dict[str, Any]] = await shop.dead_letters(letters)
    assert {letter["reason"] for letter in found} == {"not_a_video"}
    assert len({letter["body"] for letter in found}) == 1
    assert (await shop.analysis("a.mp4"))["attempts"] == 1
    assert await shop.depth() == (0, 0)
    assert await shop.depth(dlq=True) == (0, 0)
