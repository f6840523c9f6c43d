"""A world for the claim protocol: a clock, a queue, an upload, workers, on the real Postgres.

What the workers do is the service's own SQL and its own rules; they do it one step at a time, so
that any step of one can come between any two of another, or never. Only the queue is a model, with
the clock that the database is given too.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, assert_never
from uuid import uuid4

import asyncpg

from inference.checkpoint import Part
from poller.errors import LeaseLostError, PermanentError, SupersededError, UnavailableError
from poller.outcomes import apply_remedy, decide_unclaimed
from poller.postgres.checkpoints import Checkpoints
from poller.postgres.claims import Claimed, Claims, Content, Delivery
from poller.postgres.results import Results
from poller.rules import verdict
from poller.rules.failure import EXPECTED, ExpectedError, GiveBack, Remedy, Tries, decide_remedy
from poller.rules.verdict import (
    Abandoned,
    Ack,
    Continue,
    DeadLetter,
    Hide,
    Leave,
    Outcome,
    Stored,
    Verdict,
)
from tests.factories import make_message, make_request
from tests.frozen_store import FrozenStore
from tests.integration.conftest import opened_pool
from tests.integration.test_claims import make_analysis

Result = TypeVar("Result")
LEASE = timedelta(seconds=90)
HIDDEN = timedelta(seconds=900)
HELD = LEASE + timedelta(seconds=30)
MAX_ATTEMPTS = 3
EVENTS = 3
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CLOCK = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.hand (at timestamptz NOT NULL);
    INSERT INTO clock.hand VALUES (now());
    CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT at FROM clock.hand';
"""
"""What comes before `pg_catalog` in the search path is what the service's SQL finds."""
_HELD_UP = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity AS waiting, unnest(pg_blocking_pids(waiting.pid)) AS blocking
        JOIN pg_stat_activity AS other ON other.pid = blocking
        WHERE waiting.datname = current_database() AND waiting.backend_type = 'client backend'
          AND other.backend_type = 'client backend'
    )
"""


class BreachError(AssertionError):
    """The protocol's promise is broken."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a worker does in which order; another value of it is a mutant."""

    results: type[Results] = Results
    decide: Callable[[Sequence[Outcome]], Verdict] = verdict.decide
    deletes_first: bool = False
    """The message goes when the work begins, instead of when its results are committed."""
    keeps_key: bool = True
    """The database refuses rows under any token but the one that is done."""


@dataclass(slots=True)
class Letter:
    """A message in the queue."""

    number: int
    visible_at: datetime
    receive_count: int = 0


@dataclass(slots=True)
class Job:
    """What a worker is about with one delivery."""

    letter: Letter
    receive_count: int
    content: Content
    claim: Claimed | None = None
    safe_until: datetime = _NOON
    """Until when the worker may believe that the lease is its own."""
    frozen: FrozenStore | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Worker:
    """A worker, with at most one message at a time."""

    claims: Claims
    job: Job | None = None


async def make_world(url: str, protocol: Protocol, stack: AsyncExitStack) -> "World":
    """Give the database at `url` the clock, and open what the world needs until `stack` ends."""
    watcher = await asyncpg.connect(url)
    stack.push_async_callback(watcher.close)
    await watcher.execute(_CLOCK)
    name = await watcher.fetchval("SELECT quote_ident(current_database())")
    await watcher.execute(f"ALTER DATABASE {name} SET search_path = clock, pg_catalog, public")
    if not protocol.keeps_key:
        for table in ("events", "embeddings"):
            key = f"{table}_analysis_id_lease_token_fkey"
            await watcher.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key}")
    pool = await stack.enter_async_context(opened_pool(url))
    return World(url, protocol, pool, watcher)


@dataclass(slots=True)
class World:
    """One object in a bucket, its messages, and all who work on it."""

    url: str
    protocol: Protocol
    pool: Any
    watcher: "asyncpg.Connection[asyncpg.Record]"
    now: datetime = _NOON
    revision: int = 0
    queue: list[Letter] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    workers: dict[str, Worker] = field(default_factory=dict)
    grants: dict[int, int] = field(default_factory=dict)
    """By analysis: the leases given, less those whose attempt was given back."""
    tokens: dict[int, int] = field(default_factory=dict)
    commits: dict[int, int] = field(default_factory=dict)
    is_broken: bool = False
    """What comes after a breach says nothing any more."""

    async def reset(self, workers: Sequence[str]) -> None:
        """Begin anew, with a first upload that nobody has heard of."""
        await self.watcher.execute("TRUNCATE videos, events, embeddings CASCADE")
        self.now, self.revision, self.is_broken = _NOON, 1, False
        for each in (self.queue, self.dead_letters, self.grants, self.tokens, self.commits):
            each.clear()
        self.workers = {
            name: Worker(Claims(self.pool, owner=name, lease=LEASE, pipeline="p"))
            for name in workers
        }
        await self.pass_time(timedelta(0))

    async def pass_time(self, span: timedelta) -> None:
        """Move the clock, the database's too."""
        self.now += span
        await self.watcher.execute("UPDATE clock.hand SET at = $1", self.now)
        assert await self.pool.fetchval("SELECT clock_timestamp()") == self.now

    def announce(self) -> None:
        """Put a message into the queue."""
        self.queue.append(Letter(len(self.queue), self.now))

    def visible(self) -> list[Letter]:
        """What a worker could receive."""
        return [letter for letter in self.queue if letter.visible_at <= self.now]

    def receive(self, worker: Worker) -> None:
        """Take the message that has been visible for longest, and look what the object is now."""
        letter = min(self.visible(), key=lambda each: each.visible_at)
        letter.visible_at = self.now + HIDDEN
        letter.receive_count += 1
        uploaded = _NOON + timedelta(seconds=self.revision)
        content = Content(f"r{self.revision}", 1000, uploaded)
        worker.job = Job(letter, letter.receive_count, content)

    async def claim(self, worker: Worker, job: Job, *, times: int = 1) -> None:
        """Claim what the object was, `times` over: of all replies but the last none arrived."""
        message = make_message(message_id=str(job.letter.number), receive_count=job.receive_count)
        video_id = await self._unblocked(worker.claims.bind(make_request()))
        delivery = Delivery(message.id, uuid4(), is_redriven=False)
        for _ in range(times):
            found = await self._unblocked(worker.claims.claim(video_id, job.content, delivery))
        if not isinstance(found, Claimed):
            self._conclude(job, decide_unclaimed(found, message, 0.5))
            return
        job.claim, job.safe_until = found, self.now + LEASE
        self._check_grant(found)
        if found.attempts > MAX_ATTEMPTS:
            await self.stop(worker, job, PermanentError("attempts_exhausted", "-"))
        elif self.protocol.deletes_first:
            await self._delete(job)

    async def beat(self, worker: Worker, job: Job, claim: Claimed) -> None:
        """Extend the lease, then the message's invisibility."""
        try:
            await self._unblocked(worker.claims.extend(claim, 0.5))
        except LeaseLostError as error:
            await self.stop(worker, job, error)
            return
        job.safe_until, job.letter.visible_at = self.now + LEASE, self.now + HELD

    async def keep(self, claim: Claimed) -> None:
        """Keep a checkpoint; one that is refused is for the heartbeat to find out."""
        part = Part(0, 0.0, b"stretch", b"carry")
        if (
            await self._unblocked(Checkpoints(self.pool, claim).save(part))
            and claim.token != self.tokens[claim.analysis_id]
        ):
            raise self._broken(f"a checkpoint is kept under token {claim.token}")

    async def store(
        self, worker: Worker, job: Job, claim: Claimed, *, is_heard: bool = True
    ) -> None:
        """Store the results, unless the object was overwritten before they could be computed.

        `is_heard`: the worker learns what came of it.
        """
        if job.content.revision != f"r{self.revision}":
            await self.stop(worker, job, SupersededError())
            return
        error: Exception | None = None
        try:
            results = self.protocol.results(self.pool)
            await self._unblocked(results.store(claim, make_analysis(EVENTS)))
        except (LeaseLostError, asyncpg.ForeignKeyViolationError) as caught:
            error = caught
        await self._stored(worker, job, claim, error, is_heard=is_heard)

    async def thaw(self, worker: Worker, job: Job, claim: Claimed) -> None:
        """Let a store go on that was frozen."""
        assert job.frozen is not None
        error, job.frozen = await asyncio.to_thread(job.frozen.go_on), None
        await self._stored(worker, job, claim, error, is_heard=True)

    async def stop(self, worker: Worker, job: Job, error: ExpectedError) -> None:
        """Do what the rules say about an attempt that ended like this."""
        assert job.claim is not None
        tries = Tries(job.claim.attempts, MAX_ATTEMPTS, 0, job.receive_count)
        await self._apply(worker, job, job.claim, decide_remedy(error, tries, 0.5))

    async def drain(self, worker: Worker, job: Job, claim: Claimed) -> None:
        """Give the work back, uncounted."""
        await self._apply(worker, job, claim, GiveBack(timedelta(0), "interrupted", "-"))

    async def settle(self, worker: Worker, job: Job) -> None:
        """Carry the verdict out; a receipt handle may be stale and acts all the same."""
        match job.verdict:
            case Ack():
                await self._delete(job)
            case Hide(after):
                job.letter.visible_at = self.now + after
            case DeadLetter(reason):
                self.dead_letters.append(reason)
                await self._delete(job)
            case Leave():
                pass
            case Continue() | None:
                raise AssertionError(job.verdict)
            case _:
                assert_never(job.verdict)
        worker.job = None

    def crash(self, worker: Worker) -> None:
        """End a worker wherever it is; another one starts in its place."""
        if worker.job is not None and worker.job.frozen is not None:
            worker.job.frozen.go_on(dead=True)
        worker.job = None

    async def check(self) -> None:
        """See that nothing is stored that must not be, and nobody shares a lease."""
        strangers = await self.watcher.fetchval(
            "SELECT count(*) FROM events LEFT JOIN analyses AS a"
            " ON a.id = analysis_id AND a.done_token = events.lease_token AND a.state = 'done'"
            " WHERE a.id IS NULL"
        )
        halves = await self.watcher.fetchval(
            "SELECT count(*) FROM analyses AS a WHERE state = 'done' AND $1 <>"
            " (SELECT count(*) FROM events WHERE analysis_id = a.id)",
            EVENTS,
        )
        holders = [
            job.claim.analysis_id
            for worker in self.workers.values()
            if (job := worker.job) and job.claim and not job.verdict and job.safe_until > self.now
        ]
        obsolete = await self.watcher.fetchval(
            "SELECT count(*) FROM checkpoints JOIN analyses AS a ON a.id = analysis_id"
            " WHERE a.state NOT IN ('processing', 'retry')"
        )
        if strangers or halves or obsolete or len(holders) > len(set(holders)):
            raise self._broken(
                f"{strangers} rows of nobody, {halves} halves, {obsolete} checkpoints of what is"
                f" over, holders {holders}"
            )

    async def end_quietly(self) -> None:
        """Kill everybody; one worker that nothing disturbs must bring all to an end."""
        for worker in self.workers.values():
            self.crash(worker)
        if self.is_broken:
            return
        (worker, *_) = self.workers.values()
        for _ in range(100):
            if not self.queue:
                break
            due = min(letter.visible_at for letter in self.queue)
            await self.pass_time(max(due - self.now, timedelta(0)))
            self.receive(worker)
            await self._work_off(worker)
        state = await self.watcher.fetchval(
            "SELECT state FROM analyses WHERE revision = $1", f"r{self.revision}"
        )
        unfinished = await self.watcher.fetchval(
            "SELECT count(*) FROM analyses WHERE state IN ('processing', 'retry')"
        )
        if unfinished or self.queue or state not in ("done", "failed"):
            raise self._broken(
                f"lost: {len(self.queue)} messages and {unfinished} analyses are left, the video is"
                f" {state}"
            )
        if state == "failed" and not self.dead_letters:
            raise self._broken("failed, and nobody was told")

    async def _work_off(self, worker: Worker) -> None:
        job = worker.job
        assert job is not None
        await self.claim(worker, job)
        if job.claim is not None and job.verdict is None:
            await self.store(worker, job, job.claim)
        await self.settle(worker, job)
        await self.check()

    def _conclude(self, job: Job, outcome: Outcome) -> None:
        job.verdict = self.protocol.decide([outcome])

    def _check_grant(self, claim: Claimed) -> None:
        known = claim.analysis_id
        self.grants[known] = self.grants.get(known, 0) + 1
        if claim.token <= self.tokens.get(known, 0):
            raise self._broken(f"token {claim.token} was given before")
        if claim.attempts != self.grants[known]:
            raise self._broken(f"{claim.attempts} attempts counted, not {self.grants[known]}")
        self.tokens[known] = claim.token

    async def _stored(
        self, worker: Worker, job: Job, claim: Claimed, error: Exception | None, *, is_heard: bool
    ) -> None:
        if error is None:
            self._note_commit(claim)
        elif isinstance(error, asyncpg.ForeignKeyViolationError):
            raise self._broken("a former holder got past the fence, up to the foreign key")
        if not is_heard:
            error = UnavailableError("postgres", "the reply was lost")
        if error is None:
            self._conclude(job, Stored())
        elif isinstance(error, EXPECTED):
            await self.stop(worker, job, error)
        else:
            raise error

    async def _apply(self, worker: Worker, job: Job, claim: Claimed, remedy: Remedy) -> None:
        outcome = await self._unblocked(apply_remedy(worker.claims, claim, remedy))
        is_overtaken = claim.token < self.tokens[claim.analysis_id]
        if is_overtaken and not isinstance(outcome, Abandoned):
            raise self._broken(f"token {claim.token} still decides what becomes of the video")
        is_refunded = isinstance(remedy, GiveBack) and not remedy.counted
        if is_refunded and not isinstance(outcome, Abandoned):
            self.grants[claim.analysis_id] -= 1
        self._conclude(job, outcome)

    def _note_commit(self, claim: Claimed) -> None:
        known = claim.analysis_id
        self.commits[known] = self.commits.get(known, 0) + 1
        if self.commits[known] > 1 or claim.token != self.tokens[known]:
            raise self._broken(f"committed {self.commits[known]} times, now under {claim.token}")

    async def _delete(self, job: Job) -> None:
        state = await self.watcher.fetchval(
            "SELECT state FROM analyses WHERE revision = $1", job.content.revision
        )
        if state not in ("done", "failed", "superseded"):
            raise self._broken(f"a message is deleted while its video is {state}")
        if job.letter in self.queue:
            self.queue.remove(job.letter)

    def _broken(self, how: str) -> BreachError:
        self.is_broken = True
        return BreachError(how)

    async def _unblocked(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await a step, which must not wait for the row lock of a worker that stands still."""
        step = asyncio.create_task(work, name="step")
        while not step.done():
            await asyncio.wait([step], timeout=0.05)
            if not step.done() and await self.watcher.fetchval(_HELD_UP):
                step.cancel()
                await asyncio.wait([step])
                raise self._broken("a worker that stands still holds another up")
        return step.result()
