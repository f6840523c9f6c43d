"""The workers: real processes, each behind proxies of its own, replaced when they end."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.proxy import Proxy, proxied

from inference.wire import DECODER_NAME

SYSTEMS = ("postgres", "sqs", "s3")
_ADDRESSES = {
    "postgres": "POLLER_DATABASE_URL",
    "sqs": "AWS_ENDPOINT_URL_SQS",
    "s3": "AWS_ENDPOINT_URL_S3",
}
_LEAVE_SECONDS = 60


@dataclass(slots=True)
class Seat:
    """A place for one worker at a time, with its connections to the three systems."""

    number: int
    environment: Mapping[str, str]
    links: Mapping[str, Proxy]
    logs: Path
    work_dir: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether a worker sits here."""
        return self.process is not None and self.process.returncode is None

    @property
    def owner(self) -> str:
        """The name that its worker gives itself in `lease_owner`."""
        return f"{socket.gethostname()}:{self.process.pid if self.process else 0}"

    @property
    def log(self) -> Path:
        """What its worker says."""
        return self.logs / f"{self.number}-{self.starts:03}.log"

    async def start(self) -> None:
        """Start a worker; it needs some seconds before it receives."""
        self.starts += 1
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "poller", "run"),
                env={**self.environment, "POLLER_WORK_DIR": str(self.work_dir)},
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
            )

    def send(self, number: signal.Signals) -> None:
        """Signal the worker, if it is still there."""
        if self.is_alive and self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def children(self, module: str) -> list[psutil.Process]:
        """Its child processes that run `module`."""
        return [child for child in self._everybody() if module in _command(child)]

    def decoders(self) -> list[psutil.Process]:
        """Its decoders, which the fork server has started."""
        return [child for child in self._everybody() if _is_decoder(child)]

    def _everybody(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            if self.is_alive and self.process is not None:
                return psutil.Process(self.process.pid).children(recursive=True)
        return []


@dataclass(slots=True)
class Fleet:
    """All seats, and every process that was ever seen on one."""

    seats: list[Seat]
    pause_seconds: float = 1.0
    """Between the end of a worker and the start of the next."""
    is_stormy: bool = False
    _seen: set[psutil.Process] = field(default_factory=set)
    _is_kept: bool = True

    async def keep(self) -> None:
        """Put a new worker on each seat whose worker has ended, until `leave`."""
        async with asyncio.TaskGroup() as group:
            for seat in self.seats:
                group.create_task(self._keep(seat), name=f"seat-{seat.number}")
            group.create_task(self._watch(), name="census")

    async def _keep(self, seat: Seat) -> None:
        while self._is_kept:
            await seat.start()
            assert seat.process is not None  # noqa: S101 - just started
            # In the storm a worker that is robbed of its device at the start says so, too.
            if await seat.process.wait() == 2 and not self.is_stormy:
                raise RuntimeError(f"wrong settings; {seat.log} says which")
            await asyncio.sleep(self.pause_seconds)

    async def _watch(self) -> None:
        while self._is_kept:
            self.count()
            await asyncio.sleep(0.2)

    def count(self) -> None:
        """Remember every process that lives on a seat now."""
        for seat in self.seats:
            if seat.is_alive and seat.process is not None:
                with suppress(psutil.NoSuchProcess):
                    root = psutil.Process(seat.process.pid)
                    self._seen |= {root, *root.children(recursive=True)}

    def calm(self) -> None:
        """End every disturbance that lasts."""
        for seat in self.seats:
            seat.send(signal.SIGCONT)
            for link in seat.links.values():
                link.restore()

    async def leave(self) -> list[int]:
        """Drain all workers; returns their exit statuses."""
        self._is_kept = False
        self.count()
        processes = [seat.process for seat in self.seats if seat.process and seat.is_alive]
        for seat in self.seats:
            seat.send(signal.SIGTERM)
        async with asyncio.timeout(_LEAVE_SECONDS):
            return [await process.wait() for process in processes]

    def survivors(self) -> list[str]:
        """Command lines of processes of ours that are still there, after some patience."""
        deadline = time.monotonic() + 5
        while (left := [p for p in self._seen if _lives(p)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [_command(process)[-100:] for process in left]

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every line that any worker has logged."""
        for path in sorted(self.seats[0].logs.glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    found = json.loads(line)
                except ValueError:
                    found = {"event": line, "level": "none"}
                yield {**found, "log": path.name}


@asynccontextmanager
async def seated(
    count: int, environment: Mapping[str, str], directory: Path
) -> "AsyncIterator[Fleet]":
    """So many empty seats; whoever sits there at the end is killed."""
    logs = directory / "logs"
    logs.mkdir()
    async with AsyncExitStack() as stack:
        seats = []
        for number in range(count):
            urls, links = {}, {}
            for system in SYSTEMS:
                variable = _ADDRESSES[system]
                target = environment.get(variable, environment["AWS_ENDPOINT_URL"])
                urls[variable], links[system] = await stack.enter_async_context(proxied(target))
            work_dir = directory / f"work-{number}"
            work_dir.mkdir()
            seats.append(Seat(number, {**environment, **urls}, links, logs, work_dir))
        try:
            yield Fleet(seats)
        finally:
            for seat in seats:
                seat.send(signal.SIGKILL)


def worker_environment(stack: Mapping[str, str], **settings: str) -> dict[str, str]:
    """The environment of a worker on a stack, with these `POLLER_` settings in lower case."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("POLLER_", "AWS_", "ECS_"))
    }
    ours = {f"POLLER_{name.upper()}": value for name, value in settings.items()}
    return {**inherited, **stack, **ours, "AWS_EC2_METADATA_DISABLED": "true"}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return process.name() == DECODER_NAME
    except psutil.Error:
        return False
