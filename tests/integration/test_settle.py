"""Settling messages on the real emulator."""

from datetime import timedelta

import pytest
from tests.integration.conftest import receive_one

from poller.errors import UnavailableError
from poller.local.resources import Clients, QueuePair
from poller.rules.verdict import Ack, DeadLetter, Hide, Leave
from poller.settle import Settlement
from poller.sqs import Message, Queue, StaleReceiptError
from poller.stages import Stages

TOO_LONG = DeadLetter("too_long", "it is \x00 too long \u2713", 3)


def text(value: str) -> dict[str, str]:
    """A message attribute."""
    return {"DataType": "String", "StringValue": value}


async def test_a_dead_letter_is_the_original_with_its_reason(
    inbox: Queue, dead_letters: Queue
) -> None:
    """Body and attributes as they came, binary ones too, plus reason, detail and attempts."""
    data = {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
    await inbox.send("original \u2713", {"video_id": text("84"), "data": data})

    await Settlement(inbox, dead_letters).apply(await receive_one(inbox), TOO_LONG, Stages(), [])

    letter = await receive_one(dead_letters)
    assert letter.body == "original \u2713"
    assert letter.texts == {
        "video_id": "84",
        "reason": "too_long",
        "detail": "it is \N{REPLACEMENT CHARACTER} too long \u2713",
        "attempts": "3",
    }
    assert letter.attributes["data"]["BinaryValue"] == b"\x00\xff"
    assert (await inbox.depth()) == {"visible": 0, "in_flight": 0, "delayed": 0}


@pytest.mark.parametrize(
    ("room", "told"),
    [
        (200, {"reason", "attempts", "detail"}),
        (50, {"reason", "attempts"}),
        (20, {"dlq"}),
        (10, {"dlq"}),
        (9, set()),
    ],
)
async def test_a_message_at_the_size_limit_reaches_the_dlq(
    inbox: Queue, dead_letters: Queue, clients: Clients, room: int, told: set[str]
) -> None:
    """What SQS leaves no room for is left out, the detail first; body and attributes never are."""
    await clients.sqs.set_queue_attributes(
        QueueUrl=dead_letters.url, Attributes={"MaximumMessageSize": "1024"}
    )
    body = "x" * (1024 - room - len("video_idString84"))
    await inbox.send(body, {"video_id": text("84")})

    await Settlement(inbox, dead_letters).apply(await receive_one(inbox), TOO_LONG, Stages(), [])

    letter = await receive_one(dead_letters)
    assert letter.body == body
    assert letter.texts.keys() == {"video_id"} | told
    assert letter.texts.get("reason", "too_long") == "too_long"
    assert (await inbox.depth()) == {"visible": 0, "in_flight": 0, "delayed": 0}


async def test_a_message_stays_when_the_dlq_refuses_it(
    inbox: Queue, dead_letters: Queue, clients: Clients, queues: QueuePair
) -> None:
    """The send comes first: without it the message is not deleted."""
    await inbox.send("poison")
    message = await receive_one(inbox)
    nowhere = Queue(dead_letters._client, queues.dlq_url + "-gone")

    await Settlement(inbox, nowhere).apply(message, TOO_LONG, Stages(), [])

    assert clients
    assert (await inbox.depth())["in_flight"] == 1


async def test_each_verdict(inbox: Queue, dead_letters: Queue) -> None:
    """Ack deletes, Hide hides for its time, Leave does nothing."""
    settlement = Settlement(inbox, dead_letters)
    await inbox.send("work")
    first = await receive_one(inbox)

    await settlement.apply(first, Leave(), Stages(), [])
    left = (await inbox.depth())["in_flight"]
    await settlement.apply(first, Hide(timedelta(0)), Stages(), [])
    second = await receive_one(inbox)
    await settlement.apply(second, Ack(), Stages(), [])

    assert left == 1
    assert second.id == first.id
    assert (await inbox.depth()) == {"visible": 0, "in_flight": 0, "delayed": 0}


@pytest.mark.parametrize("gone", [StaleReceiptError("r"), UnavailableError("sqs", "away")])
async def test_settling_that_fails_is_left_to_the_queue(
    inbox: Queue, dead_letters: Queue, gone: Exception
) -> None:
    """The message comes back by itself; the worker goes on with the next one."""

    class Refusing(Queue):
        """The real queue, which refuses to delete."""

        async def delete(self, _: Message) -> None:
            """Refuse."""
            raise gone

    await inbox.send("work")
    message = await receive_one(inbox)

    await Settlement(Refusing(inbox._client, inbox.url), dead_letters).apply(
        message, Ack(), Stages(), []
    )

    assert (await inbox.depth())["in_flight"] == 1
