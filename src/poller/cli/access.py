"""Opening what the settings name, for the commands that look or act once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from poller import s3, sqs
from poller.errors import SettingsError
from poller.postgres import migrations
from poller.postgres.pool import connect
from poller.postgres.reports import Reports
from poller.postgres.upkeep import Upkeep
from poller.secretsmanager import DatabaseAddress
from poller.settings import Settings, require


@dataclass(frozen=True, slots=True)
class Queues:
    """The queue and its DLQ."""

    queue: sqs.Queue
    dlq: sqs.Queue


async def database_url(settings: Settings) -> str:
    """The database that the settings name, directly or by a secret.

    Raises:
        SettingsError: they name none, or the secret lacks what a URL needs.
        UnavailableError: the secret cannot be read.
    """
    require(settings, "database")
    return await DatabaseAddress(settings.database_url, settings.database_secret_arn).url()


@asynccontextmanager
async def open_reports(settings: Settings) -> AsyncIterator[Reports]:
    """Connect to the database.

    Raises:
        SettingsError: none is named.
        UnavailableError: it cannot be reached.
    """
    connection = await connect(await database_url(settings))
    try:
        yield Reports(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def open_upkeep(settings: Settings) -> AsyncIterator[Upkeep]:
    """Connect to the database, which must be migrated. Raises as `open_reports` does."""
    url = await database_url(settings)
    if missing := await migrations.pending(url):
        raise SettingsError([f"the database lacks migrations {missing}: run `poller migrate`"])
    connection = await connect(url)
    try:
        yield Upkeep(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def open_queues(settings: Settings) -> AsyncIterator[Queues]:
    """Open the queue and its DLQ, after checking that they can be used.

    Raises:
        SettingsError: no queue is named, it is FIFO, or it has no DLQ.
        UnavailableError: SQS cannot be reached.
    """
    require(settings, "queue_url")
    url = settings.queue_url or ""
    async with sqs.open_client(read_timeout=30) as client:
        dlq_url = await sqs.check_queue(client, url, settings.dlq_url)
        yield Queues(sqs.Queue(client, url), sqs.Queue(client, dlq_url))


@asynccontextmanager
async def open_objects() -> AsyncIterator[s3.Objects]:
    """Open S3."""
    async with s3.open_client() as client:
        yield s3.Objects(client)
