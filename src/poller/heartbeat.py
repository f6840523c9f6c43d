"""The heartbeat: keeps the lease and the message's visibility while a video is worked on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from poller import metrics
from poller.errors import HorizonError, LeaseLostError, UnavailableError
from poller.postgres.claims import Claimed, Claims
from poller.rules.lease import BEAT_SECONDS, Schedule, plan_visibility
from poller.sqs import Message, Queue, StaleReceiptError

log = structlog.get_logger("poller.heartbeat")

_RETRY_SECONDS = 1.0
_MIN_PATIENCE_SECONDS = 1.0


class Heartbeat:
    """The beats of one video. Created by `Heartbeats.hold`."""

    def __init__(
        self, claims: Claims, queue: Queue, claim: Claimed, message: Message, schedule: Schedule
    ) -> None:
        self._claims = claims
        self._queue = queue
        self._claim = claim
        self._message = message
        self._schedule = schedule
        self._interval = schedule.interval.total_seconds()
        self._lease = schedule.lease.total_seconds()
        self._is_cut_off_safe = True
        self.is_stopped = False
        self._receipt_is_good = True
        now = asyncio.get_running_loop().time()
        self.due = now
        """Monotonic time at which the next beat should start."""
        self.lag = 0.0
        """Seconds by which the latest beat started late."""
        self.lease_until = now + self._lease
        """Monotonic time until which the lease holds at least."""
        self.progress = 0.0
        self.progressed_at = now
        """Monotonic time of the latest progress."""

    def report(self, progress: float) -> None:
        """Note how far the work is (0..1); the next beat writes it down."""
        self.progress = min(1.0, max(self.progress, progress))
        self.progressed_at = asyncio.get_running_loop().time()

    def keep(self) -> None:
        """Note that the work goes on, although it cannot tell how far it is."""
        self.progressed_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Beat at once and then once in each interval, until `stop`.

        Raises:
            LeaseLostError: the fence refused, or Postgres was out of reach past the lease.
            HorizonError: SQS will soon hide the message no longer.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._schedule.is_at_horizon(self._message.received_at, datetime.now(UTC)):
                raise HorizonError
            self.lag = max(0.0, loop.time() - self.due)
            await self._extend_lease()
            self._is_cut_off_safe = False
            await self._extend_visibility()
            self._is_cut_off_safe = True
            self.due = max(self.due + self._interval, loop.time())
            await self._sleep_until(self.due)

    def stop(self, beats: asyncio.Task[None]) -> None:
        """Start no further beat.

        A change of visibility that is on its way gets its `BEAT_SECONDS`: cut off at once, SQS
        could still carry it out after the final verb.
        """
        self.is_stopped = True
        if self._is_cut_off_safe:
            beats.cancel()

    async def _extend_lease(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                # A connection that hangs must not cost the lease: the next try has another.
                patience = max(_MIN_PATIENCE_SECONDS, self._interval / 3)
                async with asyncio.timeout_at(min(started + patience, self.lease_until + 0.1)):
                    await self._claims.extend(self._claim, self.progress)
            except LeaseLostError:
                metrics.HEARTBEATS.labels("lost").inc()
                raise
            except (UnavailableError, TimeoutError) as error:
                metrics.HEARTBEATS.labels("failed").inc()
                log.warning(
                    "heartbeat.failed", analysis_id=self._claim.analysis_id, error=str(error)
                )
                if loop.time() >= self.lease_until:
                    raise LeaseLostError("database") from error
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                metrics.HEARTBEATS.labels("ok").inc()
                self.lease_until = started + self._lease
                return

    async def _extend_visibility(self) -> None:
        extension = plan_visibility(
            self._schedule.visibility, self._message.received_at, datetime.now(UTC)
        )
        if extension is None or not self._receipt_is_good:
            return
        try:
            # Not beyond the interval: a queue that is away must not delay the lease's next beat.
            async with asyncio.timeout(min(BEAT_SECONDS, self._interval)):
                await self._queue.hide(self._message, extension)
        except StaleReceiptError as error:
            # The lease is what protects the work. Another delivery finds it busy.
            self._receipt_is_good = False
            log.warning("heartbeat.receipt_lost", message_id=self._message.id, error=str(error))
        except (UnavailableError, TimeoutError) as error:
            log.warning("heartbeat.not_extended", message_id=self._message.id, error=str(error))

    async def _sleep_until(self, due: float) -> None:
        if self.is_stopped:
            raise asyncio.CancelledError
        await asyncio.sleep(due - asyncio.get_running_loop().time())


class Heartbeats:
    """All heartbeats of this process, with a Postgres pool and an SQS client of their own."""

    def __init__(self, claims: Claims, queue: Queue, schedule: Schedule) -> None:
        self._claims = claims
        self._queue = queue
        self._schedule = schedule
        self._active: set[Heartbeat] = set()

    @asynccontextmanager
    async def hold(self, claim: Claimed, message: Message) -> AsyncIterator[Heartbeat]:
        """Beat while the body runs; cancel the body when the lease is lost or must be handed over.

        No beat is under way any more when this returns, so the verb that settles the message
        is the last thing that is said of it.

        Raises:
            LeaseLostError: instead of the body's result.
            HorizonError: likewise; the lease is still held.
        """
        owner = asyncio.current_task()
        assert owner is not None  # noqa: S101 - a coroutine always runs in a task
        beat = Heartbeat(self._claims, self._queue, claim, message, self._schedule)
        lost: list[LeaseLostError | HorizonError] = []

        async def run() -> None:
            try:
                await beat.run()
            except (LeaseLostError, HorizonError) as error:
                lost.append(error)
            finally:
                # Without a heartbeat the work must not go on, whatever ended it.
                if not beat.is_stopped:
                    lost.append(LeaseLostError("heartbeat"))
                    owner.cancel("lease lost")

        beats = asyncio.create_task(run(), name=f"heartbeat-{claim.analysis_id}")
        self._active.add(beat)
        try:
            yield beat
        except asyncio.CancelledError:
            if lost and owner.uncancel() == 0:
                raise lost[0] from None
            raise
        finally:
            self._active.discard(beat)
            beat.stop(beats)
            await asyncio.wait([beats])
            if not beats.cancelled() and (error := beats.exception()) is not None:
                log.error("heartbeat.crashed", exc_info=error)

    def shortest_lease(self, now: float) -> float | None:
        """Seconds left on the lease that ends first; None when none is held."""
        return min((beat.lease_until - now for beat in self._active), default=None)

    def late_by(self, now: float) -> float:
        """Seconds by which the latest heartbeat is overdue."""
        return max((now - beat.due for beat in self._active), default=0.0)

    def lag(self, now: float) -> float:
        """Seconds by which the worst of the latest beats was late, or the next one is by now."""
        return max((max(beat.lag, now - beat.due) for beat in self._active), default=0.0)

    def stuck_for(self, now: float) -> float:
        """Seconds since the least busy video made progress."""
        return max((now - beat.progressed_at for beat in self._active), default=0.0)
