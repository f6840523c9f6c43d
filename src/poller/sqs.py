"""The queue and its dead-letter queue, and nothing else of SQS."""

import json
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from poller.errors import SettingsError, UnavailableError
from poller.rules.letter import is_redriven, plan_dead_letter, plan_redrive
from poller.rules.verdict import DeadLetter

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_INVALID = "InvalidParameterValue"
"""What SQS says of a message to send that is over its size limit, and of a receipt that is over."""
_STALE = {"ReceiptHandleIsInvalid", "MessageNotInflight", _INVALID}


class StaleReceiptError(Exception):
    """The receipt handle is no longer good; somebody else may have the message."""


class RefusedError(UnavailableError):
    """SQS does not take this message, as when it is over the size limit."""

    def __init__(self, detail: str) -> None:
        super().__init__("sqs", detail)


class MissingQueueError(UnavailableError):
    """There is no such queue: at the start a wrong setting, later an outage."""

    def __init__(self, detail: str) -> None:
        super().__init__("sqs", detail)


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a message."""

    id: str
    receipt: str
    body: str
    attributes: Mapping[str, Any]
    """Message attributes as SQS gives and takes them, `{name: {DataType, StringValue, …}}`."""
    receive_count: int
    received_at: datetime
    """When it was asked for: the receipt's 12 hours did not begin before."""

    @property
    def is_redriven(self) -> bool:
        """Whether it comes back from the DLQ."""
        return is_redriven(self.attributes)

    @property
    def texts(self) -> dict[str, str]:
        """The attributes that are text or numbers, by name."""
        return {
            name: value["StringValue"]
            for name, value in self.attributes.items()
            if "StringValue" in value
        }


@asynccontextmanager
async def open_client(*, read_timeout: float, attempts: int = 3) -> "AsyncIterator[SQSClient]":
    """Open a client of its own connections.

    A long poll wants one attempt: a retry inside the client would be a second, unseen poll.
    """
    config = AioConfig(
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=50,
        retries={"total_max_attempts": attempts, "mode": "standard"},
    )
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                aioboto3.Session().client("sqs", config=config)
            )
        except NoRegionError as error:
            raise SettingsError(["no AWS region: set AWS_DEFAULT_REGION"]) from error
        yield client


class Queue:
    """One queue, through one client."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self.url = url

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> list[Message]:
        """Long-poll once for up to `limit` (1..10) messages.

        Raises:
            UnavailableError: SQS is away, slow or throttling.
        """
        asked_at = datetime.now(UTC)
        with outages_translated():
            response = await self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(limit, 10),
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return [
            Message(
                id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                attributes=message.get("MessageAttributes", {}),
                receive_count=int(message["Attributes"]["ApproximateReceiveCount"]),
                received_at=asked_at,
            )
            for message in response.get("Messages", [])
        ]

    async def hide(self, message: Message, duration: timedelta) -> None:
        """Make the message visible `duration` from now; at once for zero.

        Raises:
            StaleReceiptError: the delivery is over.
            UnavailableError: SQS is away.
        """
        with outages_translated(of_receipt=True):
            await self._client.change_message_visibility(
                QueueUrl=self.url,
                ReceiptHandle=message.receipt,
                VisibilityTimeout=max(0, math.ceil(duration.total_seconds())),
            )

    async def delete(self, message: Message) -> None:
        """Delete the message. Raises as `hide` does."""
        with outages_translated(of_receipt=True):
            await self._client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)

    async def send(self, body: str, attributes: Mapping[str, Any] | None = None) -> str:
        """Send a message and return its id.

        Raises:
            RefusedError: SQS does not take the message.
            UnavailableError: SQS is away.
        """
        with outages_translated():
            response = await self._client.send_message(
                QueueUrl=self.url, MessageBody=body, MessageAttributes=_sendable(attributes or {})
            )
        return response["MessageId"]

    async def send_again(self, message: Message) -> None:
        """Send a copy here, from which the work goes on. Raises as `send` does."""
        await self.send(message.body, message.attributes)

    async def dead_letter(self, message: Message, verdict: DeadLetter) -> None:
        """Send a copy here with its original body and attributes, and why it failed.

        What a message at the size limit has no room for is left out. Raises as `send` does.
        """
        await self._send_first(message.body, plan_dead_letter(message.attributes, verdict))

    async def take_back(self, letter: Message) -> None:
        """Send a dead letter here, so that it is recognised as one.

        Raises:
            RefusedError: there is no room even for the mark: it would be taken for a duplicate.
            UnavailableError: SQS is away.
        """
        await self._send_first(letter.body, plan_redrive(letter.attributes))

    async def _send_first(self, body: str, choices: Iterable[Mapping[str, Any]]) -> None:
        """Send the body with the first of these attributes that SQS takes."""
        refused: RefusedError | None = None
        for attributes in choices:
            try:
                await self.send(body, attributes)
            except RefusedError as error:
                refused = error
            else:
                return
        if refused is not None:
            raise refused

    async def depth(self) -> dict[str, int]:
        """Count messages: `visible`, `in_flight` and `delayed`.

        Raises:
            UnavailableError: SQS is away.
        """
        with outages_translated():
            response = await self._client.get_queue_attributes(
                QueueUrl=self.url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
        counts = response["Attributes"]
        return {
            "visible": int(counts["ApproximateNumberOfMessages"]),
            "in_flight": int(counts["ApproximateNumberOfMessagesNotVisible"]),
            "delayed": int(counts["ApproximateNumberOfMessagesDelayed"]),
        }


async def check_queue(client: "SQSClient", url: str, dlq_url: str | None) -> str:
    """Check that the queue can be used, and return the URL of its DLQ.

    Raises:
        SettingsError: a FIFO queue, no such queue, or no DLQ.
        UnavailableError: SQS is away.
    """
    if url.endswith(".fifo"):
        raise SettingsError(
            [f"POLLER_QUEUE_URL ({url}) is a FIFO queue; only standard queues are supported"]
        )
    attributes = await _read_attributes(client, url, "POLLER_QUEUE_URL")
    policy = json.loads(attributes.get("RedrivePolicy", "{}"))
    if dlq_url is None and "deadLetterTargetArn" in policy:
        _, _, _, _, account, name = policy["deadLetterTargetArn"].split(":")
        try:
            with outages_translated():
                found = await client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        except MissingQueueError as error:
            raise SettingsError([f"the redrive policy of {url} names no queue: {name}"]) from error
        dlq_url = found["QueueUrl"]
    if dlq_url is None:
        raise SettingsError(
            [
                (
                    f"the queue {url} has no dead-letter queue: give it a redrive policy, or set "
                    "POLLER_DLQ_URL"
                )
            ]
        )
    if dlq_url == url:
        raise SettingsError(["POLLER_DLQ_URL is the queue itself"])
    await _read_attributes(client, dlq_url, "POLLER_DLQ_URL")
    return dlq_url


async def _read_attributes(client: "SQSClient", url: str, setting: str) -> Mapping[str, str]:
    try:
        with outages_translated():
            response = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    except MissingQueueError as error:
        raise SettingsError([f"{setting}: there is no queue {url}"]) from error
    except UnavailableError as error:
        if isinstance(error.__cause__, NoCredentialsError):
            raise SettingsError(["no AWS credentials: set AWS_* or a role"]) from error
        raise
    return cast("Mapping[str, str]", response["Attributes"])


@contextmanager
def outages_translated(*, of_receipt: bool = False) -> Iterator[None]:
    """Turn what SQS and its client raise into our errors; `of_receipt` for calls that take one."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"].rpartition(".")[2]
        if code in _STALE and of_receipt:
            raise StaleReceiptError(str(error)) from error
        if code == _INVALID:
            raise RefusedError(str(error)) from error
        if code in {"NonExistentQueue", "QueueDoesNotExist"}:
            raise MissingQueueError(str(error)) from error
        raise UnavailableError("sqs", str(error)) from error
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise UnavailableError("sqs", f"{type(error).__name__}: {error}") from error


def _sendable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    # Received attributes carry list members that SQS refuses to take back.
    wanted = ("DataType", "StringValue", "BinaryValue")
    return {
        name: {field: value[field] for field in wanted if field in value}
        for name, value in attributes.items()
    }
