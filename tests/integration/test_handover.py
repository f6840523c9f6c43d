"""The twelve-hour horizon: the work goes on under another message."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.factories import make_application_body
from tests.factories_video import make_video
from tests.integration.conftest import Systems
from tests.integration.test_watch import Parts

from poller.rules.lease import RECEIPT_LIFETIME
from poller.sqs import Message, Queue


class OldQueue(Queue):
    """The real queue, whose first delivery is almost twelve hours old."""

    age = RECEIPT_LIFETIME - timedelta(seconds=44)
    first: Message | None = None

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> list[Message]:
        """Receive, and date the first message back."""
        messages = await super().receive(
            limit=limit, wait_seconds=wait_seconds, visibility_seconds=visibility_seconds
        )
        if messages and self.first is None:
            self.first = messages[0]
            return [replace(self.first, received_at=self.first.received_at - self.age)]
        return messages


async def test_the_hours_count_from_the_question(inbox: Queue) -> None:
    """A poll may have been open for a while: SQS did not begin to count before it."""
    poll = asyncio.create_task(inbox.receive(limit=1, wait_seconds=5, visibility_seconds=30))
    await asyncio.sleep(0)  # the poll is on its way
    await inbox.send("late")
    sent_at = datetime.now(UTC)

    (message,) = await poll

    assert message.received_at < sent_at


async def test_the_work_goes_on_under_another_message(systems: Systems) -> None:
    """Just before SQS stops hiding a message, a copy takes its place, and no attempt is counted."""
    video = make_video(systems.directory / "v.mp4", frames=1400, width=640, height=360)
    await systems.upload("long", video.read_bytes())
    queue = OldQueue(systems.inbox._client, systems.inbox.url)
    parts = Parts(replace(systems, inbox=queue), sample_fps=None)
    await queue.send(make_application_body(systems.bucket, "long", video_id=84))

    loop = asyncio.create_task(parts.consumer.run())
    async with asyncio.timeout(60):
        done = "SELECT true FROM analyses WHERE state = 'done'"
        while not await systems.connections.fetchval(done):  # noqa: ASYNC110 - a table has no event
            await asyncio.sleep(0.1)
    parts.consumer.stop()
    await loop
    await parts.consumer.drain(20)
    await parts.device.close()

    (row,) = await systems.connections.fetch(
        "SELECT attempts, lease_token, lease_message_id, frames_analyzed, external_id"
        " FROM analyses JOIN videos v ON v.id = video_id"
    )
    assert queue.first is not None
    assert row["lease_message_id"] != queue.first.id
    assert (row["attempts"], row["lease_token"]) == (1, 2)
    assert row["frames_analyzed"] == 1400
    assert row["external_id"] == "84"
    depth = await queue.depth()
    assert depth["visible"] + depth["in_flight"] == 0
