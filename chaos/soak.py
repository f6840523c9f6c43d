"""`python -m chaos.soak`: many small videos through one worker, then idle: does anything grow?

The worker is the real service in a process of its own, which tells on SIGUSR1 how many tasks it
has. What it uses is measured when a tenth of the videos have warmed it up, and at the end.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table
from tests.clips import make_clip

from chaos.fleet import worker_environment
from chaos.queue import count_messages
from poller import service
from poller.local import resources
from poller.local.resources import Clients
from poller.local.stack import Stack, running
from poller.settings import load

_SETTINGS = {
    "wait_time_seconds": "1",
    "max_concurrent_videos": "4",
    "checkpoint_seconds": "1",
    "device": "cpu",
    "http_port": "0",
}
_MEMORY_GROWTH = 0.05
_IDLE_SECONDS = 60.0
"""How long what a burst has opened may take to be closed: clients keep connections for a while."""
_UPLOADS_AT_ONCE = 8
_STALL_SECONDS = 300.0
_TASKS_FILE = "SOAK_TASKS_FILE"


@dataclass(frozen=True, slots=True)
class Use:
    """What one worker uses."""

    control_bytes: int
    """Memory that no other process shares, of the control process."""
    device_bytes: int
    """Likewise, of the device process."""
    processes: int
    descriptors: int
    """Of all its processes."""
    tasks: int
    connections: int
    """Sessions in Postgres."""
    files: int
    """Temporary ones."""


@dataclass(frozen=True, slots=True)
class Worker:
    """The process, and where it leaves what."""

    process: asyncio.subprocess.Process
    directory: Path

    async def use(self, database: "asyncpg.Pool[asyncpg.Record]") -> Use:
        """Look at it now."""
        control = psutil.Process(self.process.pid)
        others = control.children(recursive=True)
        devices = [each for each in others if "inference.device_main" in " ".join(each.cmdline())]
        return Use(
            control_bytes=control.memory_full_info().uss,
            device_bytes=sum(each.memory_full_info().uss for each in devices),
            processes=1 + len(others),
            descriptors=sum(each.num_fds() for each in (control, *others)),
            tasks=await self._tasks(),
            connections=await database.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'video-poller'"
                " AND datname = current_database()"
            ),
            files=sum(1 for _ in (self.directory / "tmp").rglob("*")),
        )

    async def _tasks(self) -> int:
        told = self.directory / "tasks"
        told.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(30):
            while not told.exists():  # noqa: ASYNC110 - a file has no event to wait for
                await asyncio.sleep(0.02)
        return int(told.read_text())


def find_growth(before: Use, after: Use) -> list[str]:
    """Name what has grown: memory by 5 % or more, anything else at all."""
    grown = []
    for name, then in asdict(before).items():
        now = getattr(after, name)
        limit = then * (1 + _MEMORY_GROWTH) if name.endswith("_bytes") else then
        if now > limit:
            grown.append(f"{name}: {then} before, {now} after")
    return grown


def describe(grown: list[str]) -> str:
    """The end of a run in a line: whether nothing has grown, and what has."""
    if grown:
        return f"NOT held: {', '.join(sentence.partition(':')[0] for sentence in grown)}."
    names = [field.name for field in fields(Use)]
    memory = [name for name in names if name.endswith("_bytes")]
    others = [name for name in names if name not in memory]
    return (
        f"All held: {', '.join(memory)} grew by {_MEMORY_GROWTH:.0%} at most,"
        f" {', '.join(others)} not at all."
    )


async def soak(videos: int, stack: Stack, directory: Path, console: Console) -> tuple[Use, Use]:
    """Analyse so many videos, after a tenth of that; returns what was used before and after."""
    clips = [
        make_clip(directory / f"{seconds}.mp4", seconds=seconds).read_bytes() for seconds in (1, 2)
    ]
    async with (
        resources.connect(stack.aws) as clients,
        asyncpg.create_pool(stack.database_url, min_size=1, max_size=1) as database,
    ):
        worker = await _start(stack.environment, directory)
        try:
            run = _Soak(clients, database, stack, worker, clips, console)
            await run.analyze("warm", max(8, videos // 10))
            before = await run.settled()
            await run.analyze("soak", videos)
            after = await run.settled(before)
            worker.process.terminate()
            async with asyncio.timeout(120):
                status = await worker.process.wait()
        finally:
            with suppress(ProcessLookupError):
                worker.process.kill()
    if status:
        raise RuntimeError(f"the worker left with {status}: {directory / 'worker.log'}")
    return before, after


@dataclass(slots=True)
class _Soak:
    clients: Clients
    database: "asyncpg.Pool[asyncpg.Record]"
    stack: Stack
    worker: Worker
    clips: list[bytes]
    console: Console
    expected: int = 0

    async def analyze(self, name: str, count: int) -> None:
        """Upload so many, which S3 announces, and wait until all are done."""
        gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)

        async def upload(number: int) -> None:
            async with gate:
                await self.clients.s3.put_object(
                    Bucket=self.stack.bucket,
                    Key=f"{name}/{number}.mp4",
                    Body=self.clips[number % len(self.clips)],
                )

        self.expected += count
        await asyncio.gather(*(upload(number) for number in range(count)))
        done, moved_at = -1, time.monotonic()
        while done < self.expected:
            found = await self.database.fetchval(
                "SELECT count(*) FROM analyses WHERE state = 'done'"
            )
            if found > done:
                done, moved_at = found, time.monotonic()
                self.console.print(f"  {done} of {self.expected} videos", end="\r")
            if time.monotonic() - moved_at > _STALL_SECONDS:
                raise RuntimeError(f"stuck at {done} of {self.expected} videos")
            await asyncio.sleep(1)
        self.console.print()

    async def settled(self, before: Use | None = None) -> Use:
        """What is used when nothing is left to do, and what a burst had opened is closed."""
        deadline = time.monotonic() + _IDLE_SECONDS
        sqs, url = self.clients.sqs, self.stack.queues.url
        while sum(await count_messages(sqs, url)):  # noqa: ASYNC110 - SQS has no event
            await asyncio.sleep(0.5)
        while True:
            await asyncio.sleep(5)
            use = await self.worker.use(self.database)
            is_calm = before is not None and not find_growth(before, use)
            if is_calm or time.monotonic() > deadline:
                return use


async def _start(environment: Mapping[str, str], directory: Path) -> Worker:
    (directory / "tmp").mkdir()
    with (directory / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos.soak", "--serve"),
            env={
                **worker_environment(environment, **_SETTINGS),
                "TMPDIR": str(directory / "tmp"),
                _TASKS_FILE: str(directory / "tasks"),
            },
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
    return Worker(process, directory)


async def serve() -> None:
    """Be the worker."""
    told = Path(os.environ[_TASKS_FILE])

    def tell() -> None:
        unfinished = told.with_suffix(".new")
        unfinished.write_text(str(len(asyncio.all_tasks())))
        unfinished.rename(told)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    await service.serve(load())


def main() -> int:
    """Exit with 1 when anything has grown."""
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve())
        return 0
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="poller-soak-"))
    started = time.monotonic()
    with running(directory / "servers") as stack:
        before, after = asyncio.run(soak(chosen.videos, stack, directory, console))
    table = Table("one worker uses", "warm", f"after {chosen.videos} videos more", "growth")
    for field in fields(Use):
        then, now = getattr(before, field.name), getattr(after, field.name)
        growth = f"{now / then - 1:+.1%}" if then else f"{now:+d}"
        table.add_row(field.name, f"{then:,}", f"{now:,}", growth)
    console.print(table)
    console.print(f"{time.monotonic() - started:.0f} s")
    grown = find_growth(before, after)
    for sentence in grown:
        console.print(f"grown: {sentence}", style="red")
    if grown:
        console.print(f"The worker's log is in {directory}")
    else:
        shutil.rmtree(directory)
    console.print(describe(grown), soft_wrap=True, highlight=False)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
