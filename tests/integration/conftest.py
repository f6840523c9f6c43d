"""The parts of the service, opened on this test's own database, queue and bucket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.forkserver import ForkServer
from poller import s3, sqs
from poller.local.resources import Clients, QueuePair
from poller.postgres import pool
from poller.s3 import Objects
from poller.sqs import Message, Queue


@asynccontextmanager
async def opened_pool(database_url: str) -> AsyncIterator[pool.Pool]:
    """The service's own pool on a database."""

    async def url(_: bool) -> str:
        return database_url

    async with pool.opened(url, max_size=20) as connections:
        yield connections


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[pool.Pool]:
    """The service's own pool on this test's database."""
    async with opened_pool(database_url) as opened:
        yield opened


@pytest.fixture
async def inbox(aws: dict[str, str], queues: QueuePair) -> AsyncIterator[Queue]:
    """This test's queue."""
    assert aws
    async with sqs.open_client(read_timeout=10) as client:
        yield Queue(client, queues.url)


@pytest.fixture
async def dead_letters(aws: dict[str, str], queues: QueuePair) -> AsyncIterator[Queue]:
    """The DLQ of this test's queue."""
    assert aws
    async with sqs.open_client(read_timeout=10) as client:
        yield Queue(client, queues.dlq_url)


@pytest.fixture
async def objects(aws: dict[str, str]) -> AsyncIterator[Objects]:
    """S3 as the service reads it."""
    assert aws
    async with s3.open_client() as client:
        yield Objects(client)


@pytest.fixture
async def server() -> AsyncIterator[ForkServer]:
    """What starts decoders; it starts with the first of them and ends with the test."""
    async with ForkServer() as server:
        yield server


@dataclass(frozen=True, slots=True)
class Systems:
    """What the parts of the service work on: each the real one, and the test's own."""

    objects: Objects
    connections: pool.Pool
    inbox: Queue
    directory: Path
    clients: Clients
    bucket: str
    server: ForkServer

    async def upload(self, key: str, content: bytes) -> None:
        """Put an object into the bucket, which announces nothing."""
        await self.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=content)


@pytest.fixture
def systems(
    objects: Objects,
    connections: pool.Pool,
    inbox: Queue,
    tmp_path: Path,
    clients: Clients,
    bucket: str,
    server: ForkServer,
) -> Systems:
    """This test's bucket, database, queue and directory."""
    return Systems(objects, connections, inbox, tmp_path, clients, bucket, server)


async def receive_one(queue: Queue, visibility_seconds: int = 30) -> Message:
    """Receive the one message that is there."""
    (message,) = await queue.receive(
        limit=10, wait_seconds=2, visibility_seconds=visibility_seconds
    )
    return message
