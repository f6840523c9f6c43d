"""The embedded servers and the tests' own fixtures."""

import json

import asyncpg

from poller.local.resources import Clients


async def test_database_is_migrated_and_has_vectors(database_url: str) -> None:
    """Each test gets a migrated database with pgvector, through a role that is no superuser."""
    connection = await asyncpg.connect(database_url)

    superuser = await connection.fetchval("SELECT usesuper FROM pg_user WHERE usename = user")
    tables = await connection.fetchval("SELECT count(*) FROM analyses")
    version = await connection.fetchval(
        "SELECT extversion FROM pg_extension WHERE extname='vector'"
    )
    await connection.close()

    assert superuser is False
    assert tables == 0
    assert tuple(map(int, version.split("."))) >= (0, 8, 4)


async def test_upload_is_announced(clients: Clients, announced_bucket: str, queue: str) -> None:
    """S3 announces an upload to the test's queue, after the event that tests the notification."""
    await clients.s3.put_object(Bucket=announced_bucket, Key="a.mp4", Body=b"x")

    test_event = await clients.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)
    upload = await clients.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)

    assert json.loads(test_event["Messages"][0]["Body"])["Event"] == "s3:TestEvent"
    assert (
        json.loads(upload["Messages"][0]["Body"])["Records"][0]["s3"]["object"]["key"] == "a.mp4"
    )
