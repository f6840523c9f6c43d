"""One run: references, the storm, the calm after it, and the audit."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import asyncpg

from chaos import audit
from chaos.audit import Digest, Findings
from chaos.clips import Content, make_contents
from chaos.fleet import Fleet, seated, worker_environment
from chaos.monkey import Monkey, Orphan
from chaos.queue import Receipts, count_messages, set_max_receives, take_all
from chaos.traffic import Traffic
from poller.local import resources
from poller.local.resources import Clients
from poller.local.stack import Stack

LEASE_SECONDS = 3.0
_SETTINGS = {
    "lease_seconds": f"{LEASE_SECONDS:g}",
    "heartbeat_seconds": "1",
    "visibility_seconds": "33",
    "wait_time_seconds": "1",
    "drain_seconds": "13",
    "checkpoint_seconds": "1",
    "max_concurrent_videos": "2",
    "sample_fps": "all",
    "device": "cpu",
    "http_port": "0",
    "max_attempts": "100",  # each kill counts one, and the monkey kills more often than the world
}
_MAX_RECEIVES = 1000
"""Likewise: the queue's own limit would take what the monkey has disturbed ten times."""
_OPEN_UPLOADS = 6
_REFERENCE_SECONDS = 180
_QUIET_SECONDS = 300
_SHOW_SECONDS = 15
"""How often what is hidden is brought back in the calm: a duplicate may wait for an hour."""
_KILLS = ("killed", "crashed")
_COUNT_DONE = "SELECT count(*) FROM analyses WHERE state = 'done'"
_DONE = """
SELECT object_key, revision FROM analyses JOIN videos v ON v.id = video_id WHERE state = 'done'
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to it."""

    seconds: float
    seed: int
    workers: int
    interval_seconds: float
    only: str = ""
    """A part of the names of the disturbances to confine it to."""


@dataclass(slots=True)
class Report:
    """What was done, and what came of it."""

    plan: Plan
    disturbances: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    """Those of them that end processes by SIGKILL."""
    uploads: int = 0
    revisions: int = 0
    announcements: int = 0
    poison: int = 0
    deliveries: int = 0
    fenced: int = 0
    """Attempts that the fence or the lease ended."""
    starts: int = 0
    takeovers: list[float] = field(default_factory=list)
    quiet_seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)


Say = Callable[[str], None]


async def unleash(plan: Plan, stack: Stack, directory: Path, say: Say) -> Report:
    """Run the whole of it on an empty stack. Everything that it started has ended then."""
    report = Report(plan)
    contents = make_contents(directory)
    async with _systems(stack) as (clients, database):
        environment = worker_environment(stack.environment, **_SETTINGS)
        async with seated(plan.workers, environment, directory) as fleet:
            storm = _Storm(plan, stack, clients, database, fleet, contents, report, say)
            await storm.run()
    return report


@asynccontextmanager
async def _systems(
    stack: Stack,
) -> "AsyncIterator[tuple[Clients, asyncpg.Pool[asyncpg.Record]]]":
    async with (
        resources.connect(stack.aws) as clients,
        asyncpg.create_pool(stack.database_url, min_size=0, max_size=8) as database,
    ):
        name = stack.database_url.rpartition("/")[2]
        # The embedded server does not wait for its log; one that crashes must have it.
        await database.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = on')
        await set_max_receives(clients.sqs, stack.queues, _MAX_RECEIVES)
        yield clients, database


@dataclass(slots=True)
class _Storm:
    plan: Plan
    stack: Stack
    clients: Clients
    database: "asyncpg.Pool[asyncpg.Record]"
    fleet: Fleet
    contents: list[Content]
    report: Report
    say: Say
    receipts: Receipts = field(default_factory=Receipts)
    takeovers: dict[Orphan, float] = field(default_factory=dict)
    unfinished: int = 0

    async def run(self) -> None:
        """All of it, until the last worker has left."""
        random = Random(self.plan.seed)
        stack = self.stack
        traffic = Traffic(self.clients, stack.bucket, stack.queues.url, random, self.contents)
        monkey = Monkey(
            self.fleet,
            self.database,
            random,
            LEASE_SECONDS,
            may_crash_postgres=bool(stack.servers),
            show_messages=lambda: self.receipts.show_some(
                self.clients.sqs, stack.queues.url, random
            ),
            interval_seconds=self.plan.interval_seconds,
            only=self.plan.only,
        )
        for seat in self.fleet.seats:
            seat.links["sqs"].on_request = self.receipts.note
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self.fleet.keep(), name="fleet")
            self.say("References: each video once, undisturbed")
            references = await self._make_references(traffic)
            watching = group.create_task(self._watch(monkey, traffic), name="watch")
            await self._disturb(monkey, traffic)
            await self._settle()
            watching.cancel()
            statuses = await self.fleet.leave()
            keeping.cancel()
        await self._audit(traffic, references, statuses)
        self._count(monkey, traffic)

    async def _disturb(self, monkey: Monkey, traffic: Traffic) -> None:
        seconds = self.plan.seconds
        self.say(f"Chaos for {seconds:g} s")
        self.fleet.is_stormy = True
        async with asyncio.TaskGroup() as group:
            group.create_task(monkey.run(seconds), name="monkey")
            group.create_task(
                traffic.run(seconds, lambda: self.unfinished, _OPEN_UPLOADS), name="traffic"
            )

    async def _make_references(self, traffic: Traffic) -> dict[str, Digest]:
        for content in self.contents:
            await traffic.put(f"reference/{content.name}.x.mp4", content)
        async with asyncio.timeout(_REFERENCE_SECONDS):
            # It is the database that knows.
            while await self.database.fetchval(_COUNT_DONE) < len(self.contents):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        rows = await audit.read_analyses(self.database)
        return {row["revision"]: audit.digest(row) for row in rows}

    async def _watch(self, monkey: Monkey, traffic: Traffic) -> None:
        """See who took over what, and say how it goes."""
        said = time.monotonic()
        while True:
            try:
                await self._look(monkey, traffic)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                self.unfinished = _OPEN_UPLOADS  # it is recovering; nobody is to hurry
            if time.monotonic() - said >= 10:
                said = time.monotonic()
                self.say(
                    f"  {sum(monkey.done.values())} disturbances, {len(traffic.uploads)} uploads,"
                    f" {self.unfinished} of them open"
                )
            await asyncio.sleep(0.25)

    async def _look(self, monkey: Monkey, traffic: Traffic) -> None:
        rows = await self.database.fetch("SELECT id, lease_token, state FROM analyses")
        now = time.monotonic()
        tokens = {row["id"]: (row["lease_token"], row["state"]) for row in rows}
        for orphan in monkey.orphans:
            token, _ = tokens.get(orphan.analysis_id, (0, ""))
            if token > orphan.token:
                self.takeovers.setdefault(orphan, now - orphan.killed_at)
        done = await self.database.fetch(_DONE)
        finished = {(row["object_key"], row["revision"]) for row in done}
        self.unfinished = sum(
            (upload.key, upload.newest.revision) not in finished for upload in traffic.uploads
        )

    async def _settle(self) -> None:
        """Wait until the queue is empty; what duplicates wait for is cut short."""
        started = shown = time.monotonic()
        sqs, url = self.clients.sqs, self.stack.queues.url
        while sum(waiting := await count_messages(sqs, url)):
            now = time.monotonic()
            if now > started + _QUIET_SECONDS:
                self.report.findings.stuck.append(f"{sum(waiting)} messages")
                break
            if now > shown + _SHOW_SECONDS:
                shown = now
                self.say(f"  {waiting[0]} messages are visible, {waiting[1]} hidden")
                await self.receipts.show_all(sqs, url)
            await asyncio.sleep(0.5)
        self.report.quiet_seconds = time.monotonic() - started

    async def _audit(
        self, traffic: Traffic, references: dict[str, Digest], statuses: list[int]
    ) -> None:
        findings = self.report.findings
        rows = await audit.read_analyses(self.database)
        audit.audit_videos(rows, traffic.uploads, references, findings)
        letters = await take_all(self.clients.sqs, self.stack.queues.dlq_url)
        audit.audit_dead_letters(letters, traffic.poison, findings)
        audit.audit_logs(self.fleet.lines(), findings)
        findings.left += [f"a worker left with {status}" for status in statuses if status]
        findings.left += [f"a process: {name}" for name in self.fleet.survivors()]
        for seat in self.fleet.seats:
            findings.left += [f"a file: {path}" for path in seat.work_dir.glob("*")]

    def _count(self, monkey: Monkey, traffic: Traffic) -> None:
        report = self.report
        report.disturbances = monkey.done
        report.kills = sum(n for name, n in monkey.done.items() if name.endswith(_KILLS))
        report.uploads = len(traffic.uploads)
        report.revisions = sum(len(upload.contents) for upload in traffic.uploads)
        report.announcements = sum(upload.announcements for upload in traffic.uploads)
        report.poison = len(traffic.poison)
        report.starts = sum(seat.starts for seat in self.fleet.seats)
        report.takeovers = sorted(self.takeovers.values())
        finished: list[dict[str, Any]] = [
            line for line in self.fleet.lines() if line["event"] == "video.finished"
        ]
        report.deliveries = len(finished)
        report.fenced = sum("abandoned" in line["outcomes"] for line in finished)
