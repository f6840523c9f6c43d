"""Buckets and queues as a deployment has them: queue with DLQ, uploads announced to the queue."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import EndpointConnectionError

from poller.errors import UnavailableError

if TYPE_CHECKING:  # the stubs are for development only
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

VISIBILITY_SECONDS = 900
RETENTION_SECONDS = 4 * 24 * 3600
DLQ_RETENTION_SECONDS = 14 * 24 * 3600
LONG_POLL_SECONDS = 20
MAX_RECEIVE_COUNT = 10
TEST_EVENT_SECONDS = 5
"""How long to wait for the event; one that comes later is the service's to ignore."""


@dataclass(frozen=True, slots=True)
class QueuePair:
    """A queue and the dead-letter queue beside it."""

    url: str
    dlq_url: str
    arn: str


@dataclass(frozen=True, slots=True)
class Clients:
    """Open clients of one emulator."""

    s3: "S3Client"
    sqs: "SQSClient"


@asynccontextmanager
async def connect(environment: Mapping[str, str]) -> AsyncIterator[Clients]:
    """Clients for the endpoint, credentials and region that `AWS_*` in `environment` name.

    Raises:
        UnavailableError: nothing answers there.
    """
    session = aioboto3.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    endpoint = environment["AWS_ENDPOINT_URL"]
    # A bucket is no host name under an emulator that is not 127.0.0.1.
    paths = AioConfig(s3={"addressing_style": "path"})
    async with (
        session.client("s3", endpoint_url=endpoint, config=paths) as s3,
        session.client("sqs", endpoint_url=endpoint) as sqs,
    ):
        try:
            yield Clients(s3, sqs)
        except EndpointConnectionError as error:
            raise UnavailableError("AWS_ENDPOINT_URL", str(error)) from error


async def create_queue_pair(sqs: "SQSClient", name: str) -> QueuePair:
    """Create `name` and `name`-dlq with the numbers of a deployment."""
    dlq = await sqs.create_queue(
        QueueName=f"{name}-dlq", Attributes={"MessageRetentionPeriod": str(DLQ_RETENTION_SECONDS)}
    )
    redrive = {
        "deadLetterTargetArn": await _arn(sqs, dlq["QueueUrl"]),
        "maxReceiveCount": MAX_RECEIVE_COUNT,
    }
    queue = await sqs.create_queue(
        QueueName=name,
        Attributes={
            "VisibilityTimeout": str(VISIBILITY_SECONDS),
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "ReceiveMessageWaitTimeSeconds": str(LONG_POLL_SECONDS),
            "RedrivePolicy": json.dumps(redrive),
        },
    )
    return QueuePair(queue["QueueUrl"], dlq["QueueUrl"], await _arn(sqs, queue["QueueUrl"]))


async def create_bucket(s3: "S3Client", name: str, *, announce_to: QueuePair | None = None) -> None:
    """Create a bucket; with `announce_to`, every created object is announced to that queue."""
    await s3.create_bucket(
        Bucket=name,
        CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name},  # type: ignore[typeddict-item]  # the stubs want a literal
    )
    if announce_to is not None:
        await s3.put_bucket_notification_configuration(
            Bucket=name,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {"QueueArn": announce_to.arn, "Events": ["s3:ObjectCreated:*"]}
                ]
            },
        )


async def take_test_event(sqs: "SQSClient", pair: QueuePair) -> None:
    """Delete the event with which S3 tests a new notification; the queue must be new."""
    reply = await sqs.receive_message(QueueUrl=pair.url, WaitTimeSeconds=TEST_EVENT_SECONDS)
    for message in reply.get("Messages", []):
        await sqs.delete_message(QueueUrl=pair.url, ReceiptHandle=message["ReceiptHandle"])


async def delete_queue_pair(sqs: "SQSClient", pair: QueuePair) -> None:
    """Delete both queues with all that is in them."""
    await sqs.delete_queue(QueueUrl=pair.url)
    await sqs.delete_queue(QueueUrl=pair.dlq_url)


async def delete_bucket(s3: "S3Client", name: str) -> None:
    """Delete a bucket with all that is in it, older versions too."""
    async for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for entry in page.get("Versions", []):
            await s3.delete_object(Bucket=name, Key=entry["Key"], VersionId=entry["VersionId"])
    await s3.delete_bucket(Bucket=name)


async def _arn(sqs: "SQSClient", url: str) -> str:
    reply = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return reply["Attributes"]["QueueArn"]
