"""Watching the service: is it alive, can it work, how deep are the queues."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import structlog

from inference.device import Device
from poller import metrics
from poller.consumer import Consumer
from poller.errors import UnavailableError
from poller.heartbeat import Heartbeats
from poller.postgres.claims import Claims
from poller.sqs import Queue

log = structlog.get_logger("poller.watch")

STUCK_SECONDS = 600.0
"""A video that shows no progress for this long: its decoder would have been killed long before."""
_MIN_RECEIVE_LIMIT = 10.0
"""For polls that are so short that a busy machine delays three of them."""
_MAX_DEVICE_FAULTS = 10
"""In a row, with nothing stored between them."""
_DEVICE_COUNTS = {
    "busy_seconds": metrics.DEVICE_BUSY,
    "restarts": metrics.DEVICE_RESTARTS,
    "batches": metrics.MODEL_BATCHES,
    "batch_frames": metrics.MODEL_FRAMES,
    "batch_room": metrics.MODEL_ROOM,
}
"""What the device counts itself, by its name there."""
_DEPTH_SECONDS = 15.0
_PING_SECONDS = 3.0


class Watch:
    """Answers for `/healthz`, `/readyz` and the gauges that are read rather than counted."""

    def __init__(
        self,
        consumer: Consumer,
        heartbeats: Heartbeats,
        claims: Claims,
        device: Device,
        *,
        wait_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._consumer = consumer
        self._heartbeats = heartbeats
        self._claims = claims
        self._device = device
        self._device_seen = dict.fromkeys(_DEVICE_COUNTS, 0.0)
        self._receive_limit = max(3 * wait_seconds, _MIN_RECEIVE_LIMIT)
        self._late_limit = lease_seconds / 2

    async def alive(self) -> list[str]:
        """Name what only a restart would cure."""
        now = asyncio.get_running_loop().time()
        faults = []
        silent = now - self._consumer.waiting_since
        if self._consumer.should_receive and silent > self._receive_limit:
            faults.append(f"a slot is free and no receive has completed for {silent:.0f} s")
        if (late := self._heartbeats.late_by(now)) > self._late_limit:
            faults.append(f"a heartbeat is {late:.0f} s late")
        if (stuck := self._heartbeats.stuck_for(now)) > STUCK_SECONDS:
            faults.append(f"a video has made no progress for {stuck:.0f} s")
        if self._consumer.outage == "device" and (
            self._consumer.faults_in_a_row >= _MAX_DEVICE_FAULTS
        ):
            faults.append("the device fails again and again")
        return faults

    async def ready(self) -> list[str]:
        """Name what keeps it from working, restart or not."""
        faults = []
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._claims.ping()
        except (UnavailableError, TimeoutError) as error:
            faults.append(str(error) or "postgres does not answer")
        outage = self._consumer.outage
        if outage is not None and not (outage == "postgres" and faults):
            faults.append(f"{outage} is unavailable")
        return faults

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        now = asyncio.get_running_loop().time()
        metrics.HEARTBEAT_LAG.set(self._heartbeats.lag(now))
        metrics.LEASE_REMAINING.set(self._heartbeats.shortest_lease(now) or 0.0)
        metrics.STILL_SECONDS.set(self._heartbeats.stuck_for(now))
        for system in metrics.SYSTEMS:
            metrics.OUTAGE.labels(system).set(self._consumer.outage == system)
        if self._consumer.stopped_at is not None:
            metrics.DRAIN_SECONDS.set(now - self._consumer.stopped_at)
        device = self._device
        metrics.DEVICE_MEMORY.set(device.memory_bytes)
        for name, counter in _DEVICE_COUNTS.items():
            count = float(getattr(device, name))
            counter.inc(count - self._device_seen[name])
            self._device_seen[name] = count


class Vitals:
    """Answers from the first second on; while there is nothing to watch yet: alive, not ready.

    To fetch and load a bundle may take minutes, in which nobody is to end the task.
    """

    def __init__(self) -> None:
        self._watch: Watch | None = None

    @contextmanager
    def of(self, watch: Watch) -> Iterator[None]:
        """Let it answer while the block runs."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None

    async def alive(self) -> list[str]:
        """What only a restart would mend."""
        return [] if self._watch is None else await self._watch.alive()

    async def ready(self) -> list[str]:
        """What keeps it from work."""
        return ["starting or ending"] if self._watch is None else await self._watch.ready()

    def refresh(self) -> None:
        """Bring gauges up to date."""
        if self._watch is not None:
            self._watch.refresh()


@asynccontextmanager
async def watch_queues(queues: Mapping[str, Queue]) -> AsyncIterator[None]:
    """Keep `poller_queue_messages` up to date while the body runs."""

    async def watch() -> None:
        while True:
            for name, queue in queues.items():
                try:
                    for state, count in (await queue.depth()).items():
                        metrics.QUEUE_MESSAGES.labels(name, state).set(count)
                except UnavailableError as error:
                    log.warning("queue.not_counted", queue=name, error=str(error))
            await asyncio.sleep(_DEPTH_SECONDS)

    task = asyncio.create_task(watch(), name="watch-queues")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
