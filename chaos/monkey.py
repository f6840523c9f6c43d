"""The monkey: every other second it kills, freezes, cuts off or holds up something."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg
import psutil

from chaos.fleet import SYSTEMS, Fleet, Seat

_MAX_DEVICE_FAULTS = 2
"""A video that meets five is failed, rightly; the monkey must stay well below."""
_HOLDINGS = """
SELECT id, lease_token FROM analyses WHERE state = 'processing' AND lease_owner = $1
"""
_BACKENDS = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'video-poller' AND datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A lease whose holder was killed."""

    analysis_id: int
    token: int
    killed_at: float


@dataclass(slots=True)
class Monkey:
    """Its choices come from `random`; what becomes of them depends on the moment."""

    fleet: Fleet
    database: "asyncpg.Pool[asyncpg.Record]"
    random: Random
    lease_seconds: float
    may_crash_postgres: bool
    show_messages: Callable[[], Awaitable[bool]]
    """Have messages delivered that workers hold."""
    interval_seconds: float
    only: str
    """A part of the names of what it does; empty: everything."""
    done: Counter[str] = field(default_factory=Counter)
    """How often it did what."""
    orphans: list[Orphan] = field(default_factory=list)
    robbed: set[str] = field(default_factory=set)
    """Directories of the attempts whose decoder was killed."""

    async def run(self, seconds: float) -> None:
        """Do something every `interval_seconds` on average; in the end all is whole again."""
        deadline = time.monotonic() + seconds
        kinds: dict[str, tuple[int, Callable[[], Awaitable[bool]]]] = {
            "worker killed": (8, self._kill_worker),
            "worker drained": (2, self._drain_worker),
            "worker frozen past its lease": (3, self._freeze_worker),
            "decoder killed": (10, self._kill_decoder),
            "device killed": (7, self._kill_device),
            "database session terminated": (5, self._terminate_session),
            "all database sessions terminated": (2, self._terminate_all),
            "postgres crashed": (1 if self.may_crash_postgres else 0, self._crash_postgres),
            "connections cut": (5, self._cut),
            "system silent": (5, self._hold),
            "messages delivered while held": (4, self.show_messages),
        }
        kinds = {name: kind for name, kind in kinds.items() if self.only in name}
        weights = [weight for weight, _ in kinds.values()]
        async with asyncio.TaskGroup() as group:
            while (left := deadline - time.monotonic()) > 0:
                (name,) = self.random.choices(list(kinds), weights)
                group.create_task(self._do(name, kinds[name][1]), name=name)
                pause = self.random.expovariate(1 / self.interval_seconds)
                await asyncio.sleep(min(pause, 4 * self.interval_seconds, left))
        self.fleet.calm()

    async def _do(self, name: str, act: Callable[[], Awaitable[bool]]) -> None:
        # The database that it asks may just be in the recovery that it has caused.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, psutil.Error):
            if await act():
                self.done[name] += 1

    def _pick(self) -> Seat | None:
        seats = [seat for seat in self.fleet.seats if seat.is_alive]
        return self.random.choice(seats) if seats else None

    async def _kill_worker(self) -> bool:
        seat = self._pick()
        if seat is None:
            return False
        held = await self.database.fetch(_HOLDINGS, seat.owner)
        self.fleet.count()
        seat.send(signal.SIGKILL)
        now = time.monotonic()
        self.orphans += [Orphan(row["id"], row["lease_token"], now) for row in held]
        return True

    async def _drain_worker(self) -> bool:
        seat = self._pick()
        if seat is None:
            return False
        seat.send(signal.SIGTERM)
        return True

    async def _freeze_worker(self) -> bool:
        """A zombie: it wakes up and goes on as if its lease were still its own."""
        seat = self._pick()
        if seat is None:
            return False
        process = seat.process
        seat.send(signal.SIGSTOP)
        await asyncio.sleep(1.1 * self.lease_seconds)
        await self.show_messages()  # for somebody else to take over what it holds
        await asyncio.sleep(self.lease_seconds * self.random.uniform(0, 3))
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        return True

    async def _kill_decoder(self) -> bool:
        # The second decoder of one attempt is the last: its death would rightly fail the video.
        # Each attempt has a directory of its own.
        decoders = [
            child
            for seat in self.fleet.seats
            for child in seat.decoders()
            if child.cwd() not in self.robbed
        ]
        if not decoders:
            return False
        chosen = self.random.choice(decoders)
        self.robbed.add(chosen.cwd())
        chosen.kill()
        return True

    async def _kill_device(self) -> bool:
        faults = await self.database.fetchval("SELECT max(device_faults) FROM analyses")
        seat = self._pick()
        devices = seat.children("inference.device_main") if seat else []
        if not devices or (faults or 0) > _MAX_DEVICE_FAULTS:
            return False
        devices[0].kill()
        return True

    async def _terminate_session(self) -> bool:
        found = await self.database.fetch(_BACKENDS)
        return bool(found) and await self._terminate(self.random.choice(found)["pid"])

    async def _terminate_all(self) -> bool:
        found = await self.database.fetch(_BACKENDS)
        return any([await self._terminate(row["pid"]) for row in found])

    async def _terminate(self, pid: int) -> bool:
        return bool(await self.database.fetchval("SELECT pg_terminate_backend($1)", pid))

    async def _crash_postgres(self) -> bool:
        """One backend dies hard: Postgres ends all others and recovers from its log."""
        found = await self.database.fetch(_BACKENDS)
        if not found:
            return False
        os.kill(self.random.choice(found)["pid"], signal.SIGKILL)
        return True

    async def _cut(self) -> bool:
        return await self._disturb(lambda link: link.cut(), self.random.uniform(0, 4))

    async def _hold(self) -> bool:
        return await self._disturb(lambda link: link.hold(), self.random.uniform(1, 12))

    async def _disturb(self, act: Callable[[Any], None], seconds: float) -> bool:
        seat = self._pick()
        if seat is None:
            return False
        link = seat.links[self.random.choice(SYSTEMS)]
        act(link)
        await asyncio.sleep(seconds)
        link.restore()
        return True
