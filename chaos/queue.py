"""The queue and its DLQ as an onlooker sees them."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from poller.local.resources import QueuePair

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient


async def set_max_receives(sqs: "SQSClient", queues: QueuePair, count: int) -> None:
    """Let SQS itself move a message to the DLQ only after so many deliveries."""
    found = await sqs.get_queue_attributes(QueueUrl=queues.url, AttributeNames=["RedrivePolicy"])
    policy = {**json.loads(found["Attributes"]["RedrivePolicy"]), "maxReceiveCount": count}
    await sqs.set_queue_attributes(
        QueueUrl=queues.url, Attributes={"RedrivePolicy": json.dumps(policy)}
    )


async def count_messages(sqs: "SQSClient", url: str) -> tuple[int, int]:
    """Visible and hidden ones."""
    found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    counts = found["Attributes"]
    return (
        int(counts["ApproximateNumberOfMessages"]),
        int(counts["ApproximateNumberOfMessagesNotVisible"]),
    )


async def take_all(sqs: "SQSClient", url: str) -> list[Mapping[str, Any]]:
    """Receive every message; they stay hidden for the queue's own time."""
    taken: list[Mapping[str, Any]] = []
    while True:
        reply = await sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        if not reply.get("Messages"):
            return taken
        taken += [dict(message) for message in reply["Messages"]]
