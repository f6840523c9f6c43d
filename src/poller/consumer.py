"""The loop: receive into free slots, work, drain when told to. Settling: `settle.py`."""

import asyncio
import math
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never, cast

import structlog

from poller import metrics
from poller.errors import UnavailableError
from poller.pipeline import Pipeline
from poller.protection import Protection
from poller.rules.backoff import backoff
from poller.rules.lease import RELEASE_SECONDS
from poller.rules.message import Ignore, Reject, Requests, VideoRequest, parse_message
from poller.rules.verdict import (
    Ack,
    DeadLetter,
    Failed,
    Hide,
    Interrupted,
    Outcome,
    Postponed,
    Stored,
    Verdict,
    decide,
)
from poller.settle import Settlement
from poller.sqs import Message, Queue
from poller.stages import Stages

log = structlog.get_logger("poller.consumer")


@dataclass(frozen=True, slots=True)
class Intake:
    """What is taken from the queue, and how."""

    slots: int
    """Messages in work at once."""
    wait_seconds: int
    visibility_seconds: int
    allowed_buckets: tuple[str, ...]


class Consumer:
    """Keeps free slots filled. There is no local buffer: what is received is worked on."""

    def __init__(
        self,
        inbox: Queue,
        pipeline: Pipeline,
        settlement: Settlement,
        intake: Intake,
        protection: Protection,
    ) -> None:
        self._inbox = inbox
        self._pipeline = pipeline
        self._settlement = settlement
        self._intake = intake
        self._protection = protection
        self._stopping = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        self._interruptible: set[asyncio.Task[None]] = set()
        self._missed: VideoRequest | None = None
        self.faults_in_a_row = 0
        """Outages since something was stored."""
        self.waiting_since = asyncio.get_running_loop().time()
        """Monotonic time of the last completed receive, or since when a slot is free again."""
        self.outage: str | None = None
        """The system that is away, while one is."""
        self.stopped_at: float | None = None
        """Monotonic time of the first `stop`."""
        self._leave_by = math.inf
        self._receive_ends_at: float | None = None
        metrics.SLOTS.set(intake.slots)

    @property
    def has_free_slot(self) -> bool:
        """Whether another message could be worked on."""
        return len(self._jobs) < self._intake.slots and self.stopped_at is None

    @property
    def should_receive(self) -> bool:
        """Whether receives should be completing: not while something else is being waited for."""
        return self.has_free_slot and self.outage in (None, "sqs")

    @property
    def receive_seconds_left(self) -> float | None:
        """How long the open receive may still take, while one is open."""
        if self._receive_ends_at is None:
            return None
        return max(0.0, self._receive_ends_at - asyncio.get_running_loop().time())

    def stop(self, by: float = math.inf) -> None:
        """Receive no more, and end the drain by `by` (monotonic); the earliest of all counts."""
        self._leave_by = min(self._leave_by, by)
        if self.stopped_at is None:
            self.stopped_at = asyncio.get_running_loop().time()
            self._stopping.set()

    async def run(self) -> None:
        """Receive and work until `stop`.

        The poll that is open then is awaited to its end: cut off, SQS would still hand it a
        message, which nobody would see.
        """
        while not self._stopping.is_set():
            if not self.has_free_slot:
                await self._wait_for_slot()
                self.waiting_since = asyncio.get_running_loop().time()
                continue
            await self._wait_out_outage()
            if self._stopping.is_set():
                return
            messages = await self._receive()
            if self._stopping.is_set():
                await self._give_back(messages)
                return
            for message in messages:
                self._start(message)

    async def drain(self, seconds: float) -> None:
        """Let work finish for so long since `stop`, then interrupt what is left of it."""
        if not self._jobs or self.stopped_at is None:
            return
        deadline = min(self.stopped_at + seconds, self._leave_by) - RELEASE_SECONDS
        now = asyncio.get_running_loop().time()
        await asyncio.wait(self._jobs, timeout=max(0.0, deadline - now))
        for job in self._interruptible:
            job.cancel("draining")
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=RELEASE_SECONDS)

    async def _give_back(self, messages: list[Message]) -> None:
        """Show them to others at once, all at the same time, for as long as a drain keeps for it.

        What it does not hear of, it shows again by itself when its visibility ends.
        """
        shown = [
            asyncio.create_task(
                self._settlement.apply(message, Hide(timedelta(0)), Stages(), []),
                name=f"give-back-{message.id}",
            )
            for message in messages
        ]
        if shown:
            _, late = await asyncio.wait(shown, timeout=RELEASE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.wait(shown)

    async def _receive(self) -> list[Message]:
        self._receive_ends_at = asyncio.get_running_loop().time() + self._intake.wait_seconds
        try:
            messages = await self._inbox.receive(
                limit=self._intake.slots - len(self._jobs),
                wait_seconds=self._intake.wait_seconds,
                visibility_seconds=self._intake.visibility_seconds,
            )
        except UnavailableError as error:
            log.warning("queue.unavailable", error=str(error))
            self.outage, self._missed = "sqs", None
            self.faults_in_a_row += 1
            return []
        finally:
            self._receive_ends_at = None
        if self.outage == "sqs":
            self.outage = None
        self.waiting_since = asyncio.get_running_loop().time()
        metrics.MESSAGES_RECEIVED.inc(len(messages))
        metrics.LAST_RECEIVE.set_to_current_time()
        return messages

    def _start(self, message: Message) -> None:
        job = asyncio.create_task(self._work(message), name=f"message-{message.id}")
        self._jobs.add(job)
        self._interruptible.add(job)
        metrics.VIDEOS_IN_FLIGHT.set(len(self._jobs))
        self._protection.note_work(len(self._jobs))
        job.add_done_callback(self._finished)

    def _finished(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        metrics.VIDEOS_IN_FLIGHT.set(len(self._jobs))
        self._protection.note_work(len(self._jobs))
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("message.crashed", exc_info=error)

    async def _work(self, message: Message) -> None:
        stages, outcomes = Stages(), list[Outcome]()
        verdict: Verdict
        job = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            verdict = await self._judge(message, stages, outcomes)
        except asyncio.CancelledError:
            verdict = Hide(timedelta(0))
        except Exception:
            # A bug in one message's path must not stop the loop or leak its slot. The message
            # comes back; when it is the message that triggers the bug, its attempts run out.
            log.exception("message.failed", message_id=message.id)
            metrics.ERRORS.labels("internal").inc()
            verdict = Hide(backoff(message.receive_count, random.random()))
        finally:
            self._interruptible.discard(job)
        await self._settlement.apply(message, verdict, stages, outcomes)

    async def _judge(self, message: Message, stages: Stages, outcomes: list[Outcome]) -> Verdict:
        parsed = parse_message(message.body, message.texts, self._intake.allowed_buckets)
        match parsed:
            case Ignore(reason):
                metrics.RECORDS_IGNORED.labels(reason).inc()
                return Ack()
            case Reject(reason, detail):
                metrics.ERRORS.labels(reason).inc()
                return DeadLetter(reason, detail, attempts=0)
            case Requests() if not await self._protection.allows_work():
                return Hide(timedelta(0))
            case Requests(videos, ignored, rejected):
                outcomes += [Failed(one.reason, one.detail, attempts=0) for one in rejected]
                metrics.RECORDS_IGNORED.labels("other_event").inc(ignored)
                for video in videos:
                    outcome = await self._pipeline.run(video, message, stages)
                    outcomes.append(outcome)
                    self._note(outcome, video)
                return decide(outcomes)
            case _:
                assert_never(parsed)

    def _note(self, outcome: Outcome, request: VideoRequest) -> None:
        match outcome:
            case Postponed(_, _, str(away)) | Interrupted(_, str(away)):
                self.outage, self._missed = away, request
                self.faults_in_a_row += 1
            case Stored():
                self.faults_in_a_row = 0
            case _:
                return

    async def _wait_out_outage(self) -> None:
        """Receive nothing until the system that is away answers again.

        Each delivery counts against the queue's maxReceiveCount, and none could be worked on.
        """
        while self.outage is not None and not self._stopping.is_set():
            pause = backoff(self.faults_in_a_row, random.random()).total_seconds()
            await self._wait_for_stop(min(pause, max(1, self._intake.wait_seconds)))
            if self.outage == "sqs" or self._missed is None:
                return  # the next receive is what tells
            if await self._is_back(self.outage, self._missed):
                self.outage = None
                self.waiting_since = asyncio.get_running_loop().time()
            else:
                self.faults_in_a_row += 1

    async def _is_back(self, system: str, missed: VideoRequest) -> bool:
        """Ask the system; a stop does not wait for the answer."""
        asked = asyncio.create_task(self._pipeline.is_back(system, missed), name="is-back")
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            await asyncio.wait([asked, stopped], return_when=asyncio.FIRST_COMPLETED)
            return asked.done() and asked.result()
        finally:
            stopped.cancel()
            asked.cancel()
            await asyncio.wait([stopped, asked])

    async def _wait_for_slot(self) -> None:
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            await asyncio.wait([*self._jobs, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    async def _wait_for_stop(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
