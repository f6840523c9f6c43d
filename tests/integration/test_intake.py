"""What is taken from the queue: no more than there are free slots, and by one request at a time."""

import asyncio
import re
from pathlib import Path

import pytest
from tests.factories import make_application_body
from tests.integration.conftest import Systems
from tests.integration.test_heartbeat import until
from tests.integration.test_watch import Parts
from tests.proxy import proxied

import poller
from poller import sqs
from poller.consumer import Intake
from poller.errors import UnavailableError
from poller.pipeline import Pipeline
from poller.rules.verdict import Outcome, Stored
from poller.sqs import Queue


class Gated(Pipeline):
    """The real pipeline, whose videos take until they are told to end."""

    running = 0
    gate: asyncio.Event

    async def run(self, *_: object) -> Outcome:
        """Wait, and be done."""
        self.running += 1
        await self.gate.wait()
        return Stored()


async def test_nothing_waits_in_a_worker(systems: Systems) -> None:
    """What there is no free slot for stays in the queue, visible to others."""
    parts = Parts(systems, kind=Gated)
    pipeline = parts.consumer._pipeline
    assert isinstance(pipeline, Gated)
    pipeline.gate = asyncio.Event()
    parts.consumer._intake = Intake(2, 1, 30, ())
    for number in range(5):
        await systems.inbox.send(make_application_body(key=f"{number}"))

    loop = asyncio.create_task(parts.consumer.run())
    await until(lambda: pipeline.running == 2, seconds=60)
    taken = await systems.inbox.depth()
    pipeline.gate.set()
    await until(lambda: pipeline.running == 5, seconds=60)
    parts.consumer.stop()
    await loop
    await parts.consumer.drain(30)

    assert taken == {"visible": 3, "in_flight": 2, "delayed": 0}
    assert await systems.inbox.depth() == {"visible": 0, "in_flight": 0, "delayed": 0}


async def test_a_receive_without_an_answer_is_sent_once(
    aws: dict[str, str], systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repetition inside the client would be a second poll, whose messages nobody gets."""
    sent: list[bytes] = []
    async with proxied(aws["AWS_ENDPOINT_URL"]) as (url, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        proxy.on_request = lambda data: sent.extend(re.findall(rb"SQS\.ReceiveMessage", data))
        proxy.hold_replies_at(b"ReceiveMessage")
        async with sqs.open_client(read_timeout=1.5, attempts=1) as client:
            queue = Queue(client, systems.inbox.url)

            with pytest.raises(UnavailableError):
                await queue.receive(limit=1, wait_seconds=1, visibility_seconds=30)
            proxy.restore()

    assert sent == [b"SQS.ReceiveMessage"]


def test_messages_are_settled_one_by_one() -> None:
    """A batch can fail in parts, and one that names a message twice is refused as a whole."""
    sources = Path(poller.__file__).parent.rglob("*.py")

    assert not [path for path in sources if re.search(r"message\w*_batch\(", path.read_text())]
