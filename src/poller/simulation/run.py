"""The run: what happens when, from the first upload to the last result."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

import numpy as np

from poller.simulation.arrivals import DAY_SECONDS, HOUR_SECONDS, Arrivals, Floats
from poller.simulation.capacity import Bill, Fleet, Instance, Machines, Piece, Task
from poller.simulation.policy import Datum, Policy, Scaler

_INACTIVE_SECONDS = 6 * HOUR_SECONDS
_WAKING_SECONDS = 900
"""SQS reports no metrics of a queue that nobody has touched for six hours, and again only up to a
quarter of an hour after. Source: "Available CloudWatch metrics for Amazon SQS"."""
_PATIENCE_SECONDS = 60 * DAY_SECONDS
_UNKNOWN = Datum(None, None, None)


@dataclass(frozen=True, slots=True)
class Lags:
    """After how many periods CloudWatch has what happened in one."""

    queue: int = 1
    tasks: int = 2


@dataclass(frozen=True, slots=True)
class Warm:
    """At least one task from the one hour to the other, Monday to Friday."""

    from_hour: float
    to_hour: float
    tasks: int = 1
    days: int = 5

    def least(self, now: float, weekday: int) -> int:
        """The fewest tasks; `weekday` is that of the day in which time 0 is."""
        day, second = divmod(now, DAY_SECONDS)
        is_hour = self.from_hour * HOUR_SECONDS <= second < self.to_hour * HOUR_SECONDS
        return self.tasks if is_hour and (day + weekday) % 7 < self.days else 0


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at one moment; `hour` since the midnight before the first upload."""

    hour: float
    visible: int
    in_flight: int
    desired: int
    tasks: int
    instances: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: `waits` (n,) in seconds from upload to result, NaN where there is none."""

    arrivals: Arrivals
    waits: Floats
    samples: list[Sample]
    bill: Bill
    seconds: float

    @property
    def unfinished(self) -> int:
        """Videos without a result at the end."""
        return int(np.isnan(self.waits).sum())


class Run:
    """One run. The same arguments give the same outcome."""

    def __init__(
        self,
        arrivals: Arrivals,
        policy: Policy,
        machines: Machines,
        lags: Lags,
        warm: Warm | None,
        seed: int,
    ) -> None:
        self._arrivals = arrivals
        self._policy = policy
        self._lags = lags
        self._warm = warm
        self._scaler = Scaler(policy)
        self._fleet = Fleet(machines, policy.terms.max_tasks, Random(seed))
        self._desired = 0
        self._waiting: deque[Piece] = deque()
        self._waits = np.full(len(arrivals.times), np.nan)
        self._left = len(arrivals.times)
        self._calendar: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._known: deque[Datum] = deque(maxlen=policy.window + max(lags.queue, lags.tasks))
        self._touched_at = 0.0
        self._reported_from = 0.0
        self._samples: list[Sample] = []

    def run(self, on_tick: Callable[[float, int], None] = lambda _now, _left: None) -> Outcome:
        """Let all happen; `on_tick` is told the time and how many videos are left."""
        times, work = self._arrivals.times.tolist(), self._arrivals.work.tolist()
        upcoming, now = 0, 0.0
        self._plan(0.0, self._tick)
        while self._calendar:
            if upcoming < len(times) and times[upcoming] <= self._calendar[0][0]:
                self._arrive(times[upcoming], Piece(upcoming, work[upcoming]))
                upcoming += 1
                continue
            now, _, happen = heapq.heappop(self._calendar)
            happen(now)
            if happen == self._tick:
                on_tick(now, self._left)
                if self._is_over(now, upcoming):
                    break
                self._plan(now + self._policy.period_seconds, self._tick)
        for instance in list(self._fleet.instances):
            self._fleet.end(now, instance)
        return Outcome(self._arrivals, self._waits, self._samples, self._fleet.bill, now)

    def _is_over(self, now: float, upcoming: int) -> bool:
        if upcoming < len(self._arrivals.times):
            return False
        is_kept = self._least(now) > 0 or not self._fleet.instances
        last = self._arrivals.times[-1] if len(self._arrivals.times) else 0.0
        return (not self._left and is_kept) or bool(now > last + _PATIENCE_SECONDS)

    def _plan(self, when: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._calendar, (when, next(self._order), happen))

    def _least(self, now: float) -> int:
        return self._warm.least(now, self._arrivals.weekday) if self._warm else 0

    # --- messages ---

    def _arrive(self, now: float, piece: Piece) -> None:
        self._waiting.append(piece)
        if task := self._fleet.receiver():
            self._receive(now, task)

    def _receive(self, now: float, task: Task) -> None:
        while self._waiting and len(task.ends) < self._fleet.machines.slots:
            task.take(now, self._waiting.popleft())
        self._fleet.offer(task)
        self._plan_end(task)

    def _plan_end(self, task: Task) -> None:
        if not task.ends:
            return
        version = task.version

        def end(now: float) -> None:
            if task.version == version:
                self._finish(now, task)

        self._plan(task.next_end(), end)

    def _finish(self, now: float, task: Task) -> None:
        piece = task.finish(now)
        self._waits[piece.video] = now - self._arrivals.times[piece.video]
        self._left -= 1
        if task.instance.lost_at is None:
            self._receive(now, task)
        else:
            self._plan_end(task)

    # --- once a minute ---

    def _tick(self, now: float) -> None:
        self._observe(now)
        least = self._least(now)
        self._desired = self._scaler.decide(now, self._window(), self._desired, least)
        self._schedule(now)
        for instance in self._fleet.scale_instances(now):
            self._plan(instance.ready_at, self._schedule)
            self._plan_loss(now, instance)
        running = sum(task.ready_at <= now for task in self._fleet.tasks)
        self._samples.append(
            Sample(
                now / HOUR_SECONDS,
                len(self._waiting),
                self._fleet.in_flight,
                self._desired,
                running,
                len(self._fleet.instances),
            )
        )

    def _observe(self, now: float) -> None:
        tasks = list(self._fleet.tasks)
        if self._waiting or tasks or not now:
            if now - self._touched_at > _INACTIVE_SECONDS:
                self._reported_from = now + _WAKING_SECONDS
            self._touched_at = now
        is_reported = now >= self._reported_from and now - self._touched_at <= _INACTIVE_SECONDS
        self._known.append(
            Datum(
                float(len(self._waiting)) if is_reported else None,
                float(self._fleet.in_flight) if is_reported else None,
                # ECS counts a service while one of its tasks runs.
                float(self._desired) if any(task.ready_at <= now for task in tasks) else None,
            )
        )

    def _window(self) -> list[Datum]:
        """What CloudWatch has by now: the newest periods in part."""
        newest = len(self._known) - 1
        return [
            Datum(
                datum.visible if newest - at >= self._lags.queue else None,
                datum.in_flight if newest - at >= self._lags.queue else None,
                datum.desired if newest - at >= self._lags.tasks else None,
            )
            if newest - at < max(self._lags.queue, self._lags.tasks)
            else datum
            for at, datum in enumerate(self._known)
        ]

    def _schedule(self, now: float) -> None:
        for task in self._fleet.schedule_tasks(now, self._desired):
            self._plan_start(task)

    def _plan_start(self, task: Task) -> None:
        def start(now: float) -> None:
            if task.instance.task is task and task.instance.lost_at is None:
                self._receive(now, task)

        self._plan(task.ready_at, start)

    # --- spot ---

    def _plan_loss(self, now: float, instance: Instance) -> None:
        seconds = self._fleet.lifetime(instance)
        if seconds is not None:
            self._plan(now + seconds, lambda at: self._lose(at, instance))

    def _lose(self, now: float, instance: Instance) -> None:
        if instance not in self._fleet.instances:
            return
        machines = self._fleet.machines
        self._fleet.warn(now, instance)
        self._schedule(now)
        self._plan(now + machines.drain_seconds, lambda at: self._give_back(at, instance))
        self._plan(now + machines.notice_seconds, lambda at: self._fleet.end(at, instance))

    def _give_back(self, now: float, instance: Instance) -> None:
        if instance.task is None:
            return
        left = instance.task.give_back(now, self._fleet.machines.redone_seconds)
        for piece in left:
            self._arrive(now, piece)
