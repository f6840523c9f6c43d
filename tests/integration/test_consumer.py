"""The loop with one part broken: what it receives, and what it leaves alone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.clips import make_clip
from tests.factories import make_application_body
from tests.integration.conftest import Systems
from tests.integration.test_heartbeat import until
from tests.integration.test_watch import Parts

from inference.device import Device
from poller.consumer import Intake
from poller.pipeline import Pipeline
from poller.rules.message import VideoRequest
from poller.rules.verdict import Outcome
from poller.sqs import Message, Queue
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


class LateQueue(Queue):
    """The real queue, whose messages come when the service is to stop; what hides them waits."""

    is_silent = False
    stop: Callable[[], None]
    together: asyncio.Barrier

    async def receive(self, **wanted: Any) -> list[Message]:
        """Receive, and stop."""
        messages = await super().receive(**wanted)
        self.stop()
        return messages

    async def hide(self, message: Message, duration: timedelta) -> None:
        """Wait for all others, or for ever."""
        if self.is_silent:
            await asyncio.Event().wait()
        await self.together.wait()
        await super().hide(message, duration)


async def test_what_comes_too_late_is_given_back_together(systems: Systems) -> None:
    """Each at once, and not when the one before it was."""
    inbox = LateQueue(systems.inbox._client, systems.inbox.url)
    parts = Parts(replace(systems, inbox=inbox))
    inbox.stop, inbox.together = parts.consumer.stop, asyncio.Barrier(3)
    parts.consumer._intake = Intake(3, 1, 30, ())
    for number in range(3):
        await inbox.send(make_application_body(key=f"{number}"))

    async with asyncio.timeout(10):
        await parts.consumer.run()

    assert await systems.inbox.depth() == {"visible": 3, "in_flight": 0, "delayed": 0}


async def test_a_silent_queue_does_not_keep_a_worker_from_leaving(
    systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be given back in time comes back by itself."""
    monkeypatch.setattr("poller.consumer.RELEASE_SECONDS", 0.2)
    inbox = LateQueue(systems.inbox._client, systems.inbox.url)
    parts = Parts(replace(systems, inbox=inbox))
    inbox.stop, inbox.is_silent = parts.consumer.stop, True
    await inbox.send(make_application_body())

    async with asyncio.timeout(10):
        await parts.consumer.run()

    assert await systems.inbox.depth() == {"visible": 0, "in_flight": 1, "delayed": 0}


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
