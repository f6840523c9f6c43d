"""The loop with one part broken: what it receives, and what it leaves alone."""

import asyncio

from tests.clips import make_clip
from tests.factories import make_application_body
from tests.integration.conftest import Systems
from tests.integration.test_heartbeat import until
from tests.integration.test_watch import Parts

from inference.device import Device
from poller.pipeline import Pipeline
from poller.rules.message import VideoRequest
from poller.rules.verdict import Outcome
from poller.sqs import Message
from poller.stages import Stages


async def test_a_dead_device_stops_the_receiving(systems: Systems) -> None:
    """Messages stay in the queue, uncounted and undead, while no video could be analysed."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=1).read_bytes()
    await systems.upload("k", clip)
    device = Device("cuda")  # there is none here
    parts = Parts(systems, device=device)
    for number in range(3):
        await systems.upload(f"{number}a", clip)
        await systems.inbox.send(make_application_body(systems.bucket, f"{number}a"))

    loop = asyncio.create_task(parts.consumer.run())
    await until(lambda: parts.consumer.faults_in_a_row >= 11, seconds=150)
    unready, dead = await parts.watch.ready(), await parts.watch.alive()
    parts.consumer.stop()
    await loop
    await device.close()

    states = await systems.connections.fetch("SELECT state, attempts, device_faults FROM analyses")
    assert unready == ["device is unavailable"]
    assert dead == ["the device fails again and again"]
    assert [tuple(row) for row in states] == [("retry", 0, 0)]
    depth = await systems.inbox.depth()
    assert depth["visible"] + depth["in_flight"] == 3


class Buggy(Pipeline):
    """The real pipeline with a bug that one message triggers."""

    async def run(self, request: VideoRequest, message: Message, stages: Stages) -> Outcome:
        """Fail on `poison` as only a bug does."""
        if request.key == "poison":
            raise ZeroDivisionError(message.id)
        return await super().run(request, message, stages)


async def test_a_bug_does_not_stop_the_loop(systems: Systems) -> None:
    """Poison is hidden, its slot is free again, and the next message is worked on."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=1).read_bytes()
    await systems.upload("good", clip)
    device = Device("cpu")
    parts = Parts(systems, device=device, kind=Buggy)
    for key in ("poison", "poison", "good"):
        await systems.inbox.send(make_application_body(systems.bucket, key))

    loop = asyncio.create_task(parts.consumer.run())
    async with asyncio.timeout(60):
        done = "SELECT true FROM analyses WHERE state = 'done'"
        while not await systems.connections.fetchval(done):  # noqa: ASYNC110 - a table has no event
            await asyncio.sleep(0.1)
    parts.consumer.stop()
    await loop
    await parts.consumer.drain(20)
    await device.close()

    depth = await systems.inbox.depth()
    assert depth["visible"] + depth["in_flight"] == 2
