"""What the acceptance tests do as an application would, and how they look at what came out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.factories import make_application_body

from poller.local.resources import Clients, QueuePair
from poller.postgres.pool import Pool


class Shop:
    """An application beside the service: uploads, sends messages, reads the database and DLQ."""

    def __init__(self, clients: Clients, queues: QueuePair, bucket: str, database: Pool) -> None:
        self._clients = clients
        self._queues = queues
        self.bucket = bucket
        self.database = database

    async def upload(self, path: Path, key: str) -> None:
        """Put a file into the bucket, which announces nothing by itself."""
        await self._clients.s3.put_object(Bucket=self.bucket, Key=key, Body=path.read_bytes())

    async def upload_archived(self, path: Path, key: str) -> None:
        """Put a file that S3 shows and does not give: HeadObject 200, GetObject 403."""
        await self._clients.s3.put_object(
            Bucket=self.bucket, Key=key, Body=path.read_bytes(), StorageClass="GLACIER"
        )

    async def send(self, body: str, attributes: Mapping[str, str] | None = None) -> str:
        """Send a message with text attributes; returns its id."""
        sent = await self._clients.sqs.send_message(
            QueueUrl=self._queues.url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in (attributes or {}).items()
            },
        )
        return sent["MessageId"]

    async def announce(self, key: str, video_id: object = None) -> str:
        """Send the application's message for a key."""
        return await self.send(make_application_body(self.bucket, key, video_id))

    async def dead_letters(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait for so many messages in the DLQ and take them out."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(seconds):
            while len(found) < count:
                found += await self._take(self._queues.dlq_url)
        return found

    async def take(self, seconds: float = 5) -> dict[str, Any]:
        """Receive one message from the queue as another worker would."""
        async with asyncio.timeout(seconds):
            while True:
                if found := await self._take(self._queues.url, delete=False):
                    return found[0]

    async def depth(self, *, dlq: bool = False) -> tuple[int, int]:
        """Visible and hidden messages."""
        attributes = await self._clients.sqs.get_queue_attributes(
            QueueUrl=self._queues.dlq_url if dlq else self._queues.url, AttributeNames=["All"]
        )
        counts = attributes["Attributes"]
        visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return int(counts[visible]), int(counts[hidden])  # type: ignore[index] # plain strings

    async def analysis(self, key: str) -> dict[str, Any]:
        """The row of `latest_analyses` for a key."""
        row = await self.database.fetchrow(
            "SELECT * FROM latest_analyses WHERE object_key = $1", key
        )
        assert row is not None, f"no analysis of {key}"
        return dict(row)

    async def _take(self, url: str, *, delete: bool = True) -> list[dict[str, Any]]:
        received = await self._clients.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10 if delete else 1,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        )
        taken = []
        for message in received.get("Messages", []):
            if delete:
                await self._clients.sqs.delete_message(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"]
                )
            attributes = message.get("MessageAttributes", {})
            texts = {name: value["StringValue"] for name, value in attributes.items()}
            taken.append({"id": message["MessageId"], "body": message["Body"], **texts})
        return taken


@pytest.fixture
async def shop(
    clients: Clients, queues: QueuePair, bucket: str, database_url: str
) -> AsyncIterator[Shop]:
    """An application with this test's queue, bucket and database."""
    async with asyncpg.create_pool(database_url, min_size=0, max_size=4) as database:
        yield Shop(clients, queues, bucket, database)
