"""Moving dead letters back, with one part broken: no letter is lost or kept hidden."""

import pytest
from tests.integration.conftest import receive_one

from poller.errors import UnavailableError
from poller.redrive import Selection, Walk, redrive
from poller.sqs import Queue


async def test_a_letter_that_cannot_be_sent_stays(inbox: Queue, dead_letters: Queue) -> None:
    """It is sent before it is deleted; where that fails it can be seen in the DLQ at once."""
    await dead_letters.send("letter")
    nowhere, walk = Queue(inbox._client, inbox.url + "-gone"), Walk()

    with pytest.raises(UnavailableError):
        await redrive(
            dead_letters, nowhere, Selection(), walk, dry_run=False, on_letter=lambda: None
        )

    assert walk.moved.total() == 0
    assert (await receive_one(dead_letters)).body == "letter"


async def test_a_letter_that_was_sent_is_gone(inbox: Queue, dead_letters: Queue) -> None:
    """Not hidden, to come back after a while as a second one."""
    await dead_letters.send("letter")
    walk = Walk()

    await redrive(dead_letters, inbox, Selection(), walk, dry_run=False, on_letter=lambda: None)

    assert (await receive_one(inbox)).body == "letter"
    assert await dead_letters.depth() == {"visible": 0, "in_flight": 0, "delayed": 0}
