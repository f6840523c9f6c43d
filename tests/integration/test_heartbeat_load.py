"""Heartbeats while the machine is as busy as it gets: every core burns, ten polls are parked."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from tests.integration.conftest import receive_one
from tests.integration.test_heartbeat import claim_new, until

from poller import sqs
from poller.heartbeat import Heartbeat, Heartbeats
from poller.postgres.claims import Claimed, Claims
from poller.postgres.pool import Pool
from poller.rules.lease import Schedule
from poller.sqs import Message, Queue

INTERVAL = 2.0
BEATS = 4
POLLS = 10
DECODER_NICENESS = 5
BURN = """
import os, sys, threading
os.nice(int(sys.argv[1]))
def burn():
    while True: pass
if sys.stdin.buffer.read(4):
    threading.Thread(target=burn, daemon=True).start()
    sys.stdin.buffer.read()
"""
"""It burns from when it is told to until whoever told it is gone."""


@dataclass(slots=True)
class Notes:
    """Seconds after a beat was due at which it had extended the lease, and hidden the message."""

    beat: Heartbeat | None = None
    extended: list[float] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)

    def note(self, seconds: list[float]) -> None:
        """Note one, once the beat is known."""
        if self.beat is not None:
            seconds.append(asyncio.get_running_loop().time() - self.beat.due)


class NotedClaims(Claims):
    """The real claims, with notes."""

    notes: Notes

    async def extend(self, claim: Claimed, progress: float) -> None:
        """Extend, and note it, also when it was given up."""
        try:
            await super().extend(claim, progress)
        finally:
            self.notes.note(self.notes.extended)


class NotedQueue(Queue):
    """The real queue, with notes."""

    notes: Notes

    async def hide(self, message: Message, duration: timedelta) -> None:
        """Hide, and note it, also when it was given up."""
        try:
            await super().hide(message, duration)
        finally:
            self.notes.note(self.notes.hidden)


@asynccontextmanager
async def burning() -> AsyncIterator[None]:
    """Two processes for each core that never rest: one as nice as a decoder, one not nice."""
    burners = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BURN, str(niceness)), stdin=asyncio.subprocess.PIPE
        )
        for niceness in (0, DECODER_NICENESS)
        for _ in os.sched_getaffinity(0)
    ]
    for burner in burners:  # now that all are there: while some burn, it is hard to start others
        assert burner.stdin is not None
        burner.stdin.write(b"burn")
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
        for burner in burners:
            await burner.wait()


@asynccontextmanager
async def parked(url: str) -> AsyncIterator[None]:
    """Ten long polls on an empty queue, through a client such as the service polls with."""
    async with sqs.open_client(read_timeout=25, attempts=1) as client:
        queue = Queue(client, url)
        polls = [
            asyncio.create_task(queue.receive(limit=1, wait_seconds=20, visibility_seconds=30))
            for _ in range(POLLS)
        ]
        try:
            yield
        finally:
            for poll in polls:
                poll.cancel()
            await asyncio.wait(polls)


async def test_no_beat_is_late(connections: Pool, inbox: Queue) -> None:
    """Each has extended the lease and the visibility within its interval."""
    notes = Notes()
    claims = NotedClaims(connections, owner="w", lease=timedelta(seconds=30), pipeline="p")
    held = await claim_new(claims)
    await inbox.send("work")
    message = await receive_one(inbox)
    claims.notes = notes

    async with burning(), parked(inbox.url), sqs.open_client(read_timeout=5, attempts=1) as own:
        queue = NotedQueue(own, inbox.url)
        queue.notes = notes
        schedule = Schedule(timedelta(seconds=30), timedelta(seconds=INTERVAL))
        async with Heartbeats(claims, queue, schedule).hold(held, message) as notes.beat:
            await until(lambda: len(notes.hidden) >= BEATS, seconds=60)

    assert len(notes.extended) >= BEATS
    assert max(notes.extended) < INTERVAL
    assert max(notes.hidden) < INTERVAL
