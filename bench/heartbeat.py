"""How late heartbeats are while every core is busy and ten long polls are parked."""

import asyncio
import os
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from bench.measure import Measurement
from inference.events import PIPELINE
from poller import sqs
from poller.heartbeat import Heartbeat, Heartbeats
from poller.postgres import pool
from poller.postgres.claims import Claimed, Claims, Content, Delivery
from poller.rules.lease import Schedule
from poller.rules.message import VideoRequest
from poller.sqs import Queue

VIDEOS, POLLS, SECONDS = 10, 10, 60
INTERVAL = timedelta(seconds=1)
"""Thirty times as often as the service beats, so that a minute has enough of them."""
LEASE = timedelta(seconds=90)
LIMIT_SECONDS = 1.0
_BURN = "while True: pass"


@dataclass(slots=True)
class _Beats:
    """What was seen, in seconds after each beat was due."""

    begun: list[float] = field(default_factory=list)
    extended: list[float] = field(default_factory=list)
    active: dict[int, Heartbeat] = field(default_factory=dict)


class _Observed(Claims):
    """The real claims; each beat is noted."""

    beats: _Beats

    async def extend(self, claim: Claimed, progress: float) -> None:
        """Note when the beat began and when its lease was extended."""
        beat = self.beats.active.get(claim.analysis_id)
        await super().extend(claim, progress)
        if beat is not None:
            self.beats.begun.append(beat.lag)
            self.beats.extended.append(asyncio.get_running_loop().time() - beat.due)


async def measure() -> list[Measurement]:
    """Ten videos held for a minute in one process, on the real Postgres and queue."""
    beats = _Beats()
    async with AsyncExitStack() as stack:
        await _hold_all(stack, beats)
        cores = len(os.sched_getaffinity(0))
        await stack.enter_async_context(_burning(cores))
        await asyncio.sleep(SECONDS)
    return [
        _judge("begin", beats.begun, cores),
        _judge("have extended the lease", beats.extended, cores),
    ]


def _judge(what: str, seconds: list[float], cores: int) -> Measurement:
    if len(seconds) < VIDEOS * SECONDS / 2:
        raise RuntimeError(f"only {len(seconds)} beats in {SECONDS} s")
    return Measurement(
        f"heartbeats {what} late, p99 of {len(seconds)}, {cores} cores busy, {POLLS} polls parked,"
        " against one second",
        statistics.quantiles(seconds, n=100)[98],
        LIMIT_SECONDS,
        "s",
        1,
        "at most",
    )


async def _hold_all(stack: AsyncExitStack, beats: _Beats) -> None:
    enter = stack.enter_async_context
    long_poll = await enter(sqs.open_client(read_timeout=25, attempts=1))
    own = await enter(sqs.open_client(read_timeout=5, attempts=1))
    # A queue of its own: nothing else comes or waits there.
    url = os.environ["POLLER_QUEUE_URL"].rpartition("/")[2] + "-beats"
    made = await own.create_queue(QueueName=url)
    connections = await enter(pool.opened(_database_url, max_size=2))
    claims = _Observed(connections, owner="bench", lease=LEASE, pipeline=PIPELINE)
    claims.beats = beats
    queue = Queue(own, made["QueueUrl"])
    heartbeats = Heartbeats(claims, queue, Schedule(LEASE, INTERVAL))
    tasks = [
        asyncio.create_task(_hold(heartbeats, claims, queue, beats, number))
        for number in range(VIDEOS)
    ]
    stack.push_async_callback(_end, tasks)
    while len(beats.active) < VIDEOS:  # noqa: ASYNC110 - a bench may poll
        await asyncio.sleep(0.1)
    polls = [asyncio.create_task(_park(Queue(long_poll, made["QueueUrl"]))) for _ in range(POLLS)]
    stack.push_async_callback(_end, polls)


async def _database_url(_: bool) -> str:
    return os.environ["POLLER_DATABASE_URL"]


async def _hold(
    heartbeats: Heartbeats, claims: Claims, queue: Queue, beats: _Beats, number: int
) -> None:
    """Claim a video and keep it until cancelled, with a message whose visibility is extended."""
    await queue.send(f"video {number}")
    (message,) = await queue.receive(limit=1, wait_seconds=5, visibility_seconds=900)
    video = await claims.bind(VideoRequest("bench", f"beats/{number}", None))
    claim = await claims.claim(
        video, Content("r", 1, datetime.now(UTC)), Delivery(message.id, uuid4(), is_redriven=False)
    )
    assert isinstance(claim, Claimed)  # noqa: S101 - the key is new
    async with heartbeats.hold(claim, message) as beat:
        beats.active[claim.analysis_id] = beat
        await asyncio.Event().wait()


async def _park(queue: Queue) -> None:
    while True:
        await queue.receive(limit=1, wait_seconds=20, visibility_seconds=900)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _burning(cores: int) -> AsyncIterator[None]:
    """As many processes as there are cores, each busy, and none nice as a decoder would be."""
    burners = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _BURN) for _ in range(cores)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            await burner.wait()
