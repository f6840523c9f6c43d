"""A worker on the scripted SQS, whose clock runs ahead and whose videos take as long as is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Self

import pytest
from tests.integration.conftest import Systems
from tests.integration.test_claims import make_analysis
from tests.integration.test_watch import Parts
from tests.scripted_sqs import ScriptedSqs

from poller import sqs
from poller.consumer import Consumer, Intake
from poller.heartbeat import Heartbeats
from poller.pipeline import Limits, Pipeline
from poller.postgres.claims import Claimed, Claims, Held, Terminal
from poller.postgres.results import Results
from poller.protection import Protection
from poller.rules.lease import Schedule
from poller.rules.protection import Terms
from poller.settle import Settlement
from poller.sqs import Message, Queue
from poller.workspace import Workspace

SCHEDULE = Schedule(timedelta(minutes=15), timedelta(minutes=5))
WAIT_SECONDS = 1
_PATIENCE_SECONDS = 60
"""For what comes soon, on a machine that has better things to do."""


class Clock:
    """The event loop's time and the date, as `poller` sees them; runs on, and leaps when told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0

        class Shifted(datetime):
            """The date, as far ahead as the clock."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                """Read it."""
                return super().now(tz) + timedelta(seconds=clock.ahead)

        clock = self
        patch.setattr(asyncio.get_running_loop(), "time", self.time)
        patch.setattr("poller.heartbeat.BEAT_SECONDS", _PATIENCE_SECONDS)
        for module in ("heartbeat", "settle", "sqs"):
            patch.setattr(f"poller.{module}.datetime", Shifted)

    def time(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead


class Noted(Claims):
    """The real claims; notes from when to when each grant holds."""

    clock: Clock
    leases: list[tuple[float, float]]

    async def claim(self, *arguments: object) -> Claimed | Held | Terminal:
        """Claim."""
        now = self.clock.time()
        found = await super().claim(*arguments)  # type: ignore[arg-type] # passed on as they came
        if isinstance(found, Claimed):
            self.leases.append((now, now + SCHEDULE.lease.total_seconds()))
        return found

    async def extend(self, claim: Claimed, progress: float) -> None:
        """Extend."""
        now = self.clock.time()
        await super().extend(claim, progress)
        self.leases.append((now, now + SCHEDULE.lease.total_seconds()))


class Working(Pipeline):
    """The real pipeline, whose analysis ends when it is told; notes from when to when it ran."""

    clock: Clock
    is_over: asyncio.Event
    error: Exception | None = None
    begun = 0
    ran: list[tuple[float, float]]

    async def _work(self, claim: Claimed, _: object, message: Message, *__: object) -> None:
        async with self._heartbeats.hold(claim, message) as beat:
            self.begun += 1
            started = self.clock.time()
            try:
                await self.is_over.wait()
            finally:
                self.ran.append((started, self.clock.time()))
            error, self.error = self.error, None
            if error is not None:
                raise error
            await self._results.store(claim, make_analysis(), beat.keep)


async def until(condition: Callable[[], bool]) -> None:
    """Wait in real time, whatever the clock says, for something that no event tells of."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of a test, with a slot for one message."""

    consumer: Consumer
    pipeline: Working
    heartbeats: Heartbeats
    settlement: Settlement
    leases: list[tuple[float, float]]
    sqs: ScriptedSqs
    clock: Clock

    def is_between_beats(self) -> bool:
        """Whether it waits for its next beat, and nobody for SQS."""
        return self.heartbeats.late_by(self.clock.time()) < 0 and self.sqs.is_idle

    async def works(self) -> None:
        """Wait until it is at work and has had its first beat."""
        await until(self.is_between_beats)

    async def pass_time(self, seconds: float) -> None:
        """Let the clock leap from beat to beat, each carried out to its end."""
        end = self.clock.time() + seconds
        while (now := self.clock.time()) < end:
            if self.is_between_beats():
                self.clock.ahead += min(end - now, -self.heartbeats.late_by(now))
            await asyncio.sleep(0.002)

    def end(self, error: Exception | None = None) -> None:
        """Let its work end."""
        self.pipeline.error = error
        self.pipeline.is_over.set()


@asynccontextmanager
async def working(systems: Systems, sqs_: ScriptedSqs, clock: Clock) -> AsyncIterator[Worker]:
    """A worker at the scripted queue, with the clients that the service has."""
    async with AsyncExitStack() as stack:

        async def opened(name: str, *, read_timeout: float, attempts: int) -> Queue:
            client = sqs.open_client(read_timeout=read_timeout, attempts=attempts)
            return Queue(await stack.enter_async_context(client), sqs_.queue_url(name))

        claims = Noted(systems.connections, owner="w", lease=SCHEDULE.lease, pipeline="p")
        claims.clock, claims.leases = clock, []
        beating = await opened("main", read_timeout=_PATIENCE_SECONDS, attempts=1)
        heartbeats = Heartbeats(claims, beating, SCHEDULE)
        pipeline = Working(
            systems.objects,
            claims,
            heartbeats,
            Parts(systems).consumer._pipeline._analyzer,
            Results(systems.connections),
            Workspace(systems.directory),
            Limits(10**9, 3),
        )
        pipeline.clock, pipeline.is_over, pipeline.ran = clock, asyncio.Event(), []
        settlement = Settlement(
            await opened("main", read_timeout=10, attempts=3),
            await opened("dlq", read_timeout=10, attempts=3),
        )
        consumer = Consumer(
            await opened("main", read_timeout=WAIT_SECONDS + 5, attempts=1),
            pipeline,
            settlement,
            Intake(1, WAIT_SECONDS, 960, ()),
            Protection(None, Terms(3600, 45)),
        )
        loop = asyncio.create_task(consumer.run())
        try:
            yield Worker(consumer, pipeline, heartbeats, settlement, claims.leases, sqs_, clock)
        finally:
            consumer.stop()
            clock.ahead += WAIT_SECONDS  # for the poll that is open
            await loop
            await consumer.drain(20)
