"""Moving dead letters back, with one part broken: no letter is lost or kept hidden."""

import pytest
from tests.integration.conftest import receive_one

from poller.errors import UnavailableError
from poller.local.resources import Clients
from poller.redrive import Selection, Walk, redrive
from poller.rules.verdict import DeadLetter
from poller.settle import Settlement
from poller.sqs import Message, Queue
from poller.stages import Stages

SIZE_LIMIT = 1024


async def test_a_letter_that_cannot_be_sent_stays(inbox: Queue, dead_letters: Queue) -> None:
    """It is sent before it is deleted; where that fails it can be seen in the DLQ at once."""
    await dead_letters.send("letter")
    nowhere, walk = Queue(inbox._client, inbox.url + "-gone"), Walk()

    with pytest.raises(UnavailableError):
        await redrive(
            dead_letters, nowhere, Selection(), walk, dry_run=False, on_letter=lambda *_: None
        )

    assert walk.moved.total() == 0
    assert (await receive_one(dead_letters)).body == "letter"


class Undeletable(Queue):
    """A real queue whose letters cannot be deleted now."""

    async def delete(self, message: Message) -> None:
        """Fail as in an outage."""
        raise UnavailableError("sqs", message.id)


async def test_a_letter_that_cannot_be_deleted_is_not_counted(
    inbox: Queue, dead_letters: Queue
) -> None:
    """It is in the queue and in the DLQ, visible in both: moved twice does no harm, unseen does."""
    await dead_letters.send("letter")
    stuck, walk = Undeletable(dead_letters._client, dead_letters.url), Walk()

    with pytest.raises(UnavailableError):
        await redrive(stuck, inbox, Selection(), walk, dry_run=False, on_letter=lambda *_: None)

    assert walk.moved.total() == 0
    assert (await receive_one(inbox)).body == "letter"
    assert (await receive_one(dead_letters)).body == "letter"


async def test_a_letter_that_was_sent_is_gone(inbox: Queue, dead_letters: Queue) -> None:
    """Not hidden, to come back after a while as a second one."""
    await dead_letters.send("letter")
    walk = Walk()

    await redrive(dead_letters, inbox, Selection(), walk, dry_run=False, on_letter=lambda *_: None)

    assert (await receive_one(inbox)).body == "letter"
    assert await dead_letters.depth() == {"visible": 0, "in_flight": 0, "delayed": 0}


async def test_a_letter_without_a_reason_goes_back_marked(
    inbox: Queue, dead_letters: Queue
) -> None:
    """What SQS itself moved is recognised, so that a failed video is not taken for a duplicate."""
    attribute = {"DataType": "String", "StringValue": "84"}
    await dead_letters.send("letter", {"video_id": attribute})

    await redrive(
        dead_letters, inbox, Selection(), Walk(), dry_run=False, on_letter=lambda *_: None
    )

    back = await receive_one(inbox)
    assert back.is_redriven
    assert back.texts == {"video_id": "84", "dlq": "1"}


@pytest.mark.parametrize("room", [10, 15, 30, 60, 200])
async def test_a_message_at_the_size_limit_makes_the_round_trip(
    inbox: Queue, dead_letters: Queue, clients: Clients, room: int
) -> None:
    """Through the DLQ and back, with as much as there is room for, and always recognised."""
    await limit_size(clients, inbox, dead_letters)
    body, walk = "x" * (SIZE_LIMIT - room), Walk()
    await inbox.send(body)
    failed = DeadLetter("too_long", "it is too long", 3)
    await Settlement(inbox, dead_letters).apply(await receive_one(inbox), failed, Stages(), [])

    await redrive(dead_letters, inbox, Selection(), walk, dry_run=False, on_letter=lambda *_: None)

    back = await receive_one(inbox)
    assert (back.body, back.is_redriven, walk.moved.total()) == (body, True, 1)


async def test_a_letter_too_long_for_the_queue_leaves_its_reason_behind(
    inbox: Queue, dead_letters: Queue, clients: Clients
) -> None:
    """A DLQ may take more than the queue does: what has no room in the queue gives way."""
    await limit_size(clients, inbox)
    said = {"DataType": "String", "StringValue": "too_long"}
    await dead_letters.send("x" * (SIZE_LIMIT - 10), {"reason": said, "attempts": said})

    await redrive(
        dead_letters, inbox, Selection(), Walk(), dry_run=False, on_letter=lambda *_: None
    )

    back = await receive_one(inbox)
    assert (back.texts, back.is_redriven) == ({"dlq": "1"}, True)


async def test_a_letter_that_cannot_be_marked_stays(
    inbox: Queue, dead_letters: Queue, clients: Clients
) -> None:
    """Unmarked it would be deleted as a duplicate of its failed video; the others are moved."""
    await limit_size(clients, inbox, dead_letters)
    full, walk = "x" * (SIZE_LIMIT - 9), Walk()
    for body in (full, "short"):
        await dead_letters.send(body)

    await redrive(dead_letters, inbox, Selection(), walk, dry_run=False, on_letter=lambda *_: None)

    assert (await receive_one(inbox)).body == "short"
    assert (await receive_one(dead_letters)).body == full
    assert (walk.moved.total(), walk.kept.total(), walk.refused.total()) == (1, 1, 1)


async def limit_size(clients: Clients, *queues: Queue) -> None:
    """Have the queues take messages of 1 KiB at most, the least that SQS allows."""
    for queue in queues:
        await clients.sqs.set_queue_attributes(
            QueueUrl=queue.url, Attributes={"MaximumMessageSize": str(SIZE_LIMIT)}
        )
