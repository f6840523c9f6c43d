"""The queue and its DLQ as an onlooker sees them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from poller.local.resources import QueuePair

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_RECEIPT = re.compile(rb'"ReceiptHandle": ?"([^"]+)"')


@dataclass(slots=True)
class Receipts:
    """The receipts of all messages that workers have hidden or held."""

    _known: set[str] = field(default_factory=set)

    def note(self, request: bytes) -> None:
        """Take receipts out of what a worker sends to SQS."""
        self._known |= {found.decode() for found in _RECEIPT.findall(request)}

    async def show_some(self, sqs: "SQSClient", url: str, random: Random) -> bool:
        """Make half of them visible while they are held: SQS may deliver a message twice."""
        receipts = random.sample(sorted(self._known), (len(self._known) + 1) // 2)
        return any([await self._show(sqs, url, receipt) for receipt in receipts])

    async def show_all(self, sqs: "SQSClient", url: str) -> None:
        """Make all that is hidden visible now: a worker may have hidden it for many minutes."""
        for receipt in list(self._known):
            await self._show(sqs, url, receipt)

    async def _show(self, sqs: "SQSClient", url: str, receipt: str) -> bool:
        try:
            await sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0
            )
        except ClientError:
            self._known.discard(receipt)  # its message has been deleted
            return False
        return True


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
