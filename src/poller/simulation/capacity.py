"""Tasks and the instances under them: started, used, taken away, paid for.

A task works on up to `slots` videos at once, and each gets an equal share of it; so a video takes
its own work in seconds when it is alone, and a full task is not faster than an empty one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Machines:
    """What instances and tasks are like. Durations in seconds."""

    slots: int = 4
    """`max_concurrent_videos`."""
    instance_start_seconds: float = 180
    """From the request until ECS can place a task."""
    task_start_seconds: float = 120
    """Image, migration, device: until the first receive. Less on an instance that had a task."""
    task_restart_seconds: float = 30
    max_step: int = 2
    """Instances that one decision of the capacity provider starts."""
    on_demand_base: int = 0
    losses_per_hour: float = 0.01
    """Of one spot instance."""
    protection_seconds: float = 45
    """A task is protected for so long after its last video."""
    idle_periods: int = 15
    """The capacity provider takes instances away after so many minutes with one too many."""
    drain_seconds: float = 90
    notice_seconds: float = 120
    redone_seconds: float = 30
    """Work that a loss costs again: half the time between two checkpoints."""


class Piece(NamedTuple):
    """A video in the queue, or what is left of it."""

    video: int
    work: float


@dataclass(eq=False, slots=True)
class Instance:
    """One GPU."""

    started_at: float
    is_spot: bool
    ready_at: float
    had_task: bool = False
    task: "Task | None" = None
    lost_at: float | None = None
    """When the notice came that it will be taken away."""


@dataclass(eq=False, slots=True)
class Task:
    """One worker, shared equally by what it works on.

    `passed` is the work that each video present has got since the task began; a video ends when
    that has risen by its own work.
    """

    instance: Instance
    ready_at: float
    ends: list[tuple[float, Piece]] = field(default_factory=list)
    passed: float = 0.0
    at: float = 0.0
    busy_seconds: float = 0.0
    idle_since: float = 0.0
    version: int = 0
    """Changes with every change of what is worked on, so that an old end is known as such."""
    place: int = -1
    """Where it stands in the list of those that receive; -1: it does not."""

    def take(self, now: float, piece: Piece) -> None:
        """Begin with a video."""
        self._advance(now)
        self.ends.append((self.passed + piece.work, piece))

    def finish(self, now: float) -> Piece:
        """End with the video that is due."""
        self._advance(now)
        due = min(self.ends)
        self.ends.remove(due)
        self.idle_since = now
        return due[1]

    def next_end(self) -> float:
        """When the next video is done, if nothing changes."""
        if not self.ends:
            return inf
        return self.at + (min(self.ends)[0] - self.passed) * len(self.ends)

    def give_back(self, now: float, redone_seconds: float) -> list[Piece]:
        """Stop, and say what is left to do of each video."""
        self._advance(now)
        left = [
            Piece(piece.video, end - self.passed + min(redone_seconds, piece.work))
            for end, piece in self.ends
        ]
        self.ends.clear()
        return left

    def _advance(self, now: float) -> None:
        if self.ends:
            self.passed += (now - self.at) / len(self.ends)
            self.busy_seconds += now - self.at
        self.at = now
        self.version += 1


@dataclass(slots=True)
class Bill:
    """What was used so far."""

    spot_seconds: float = 0.0
    on_demand_seconds: float = 0.0
    busy_seconds: float = 0.0
    losses: int = 0
    starts: int = 0


class Fleet:
    """All instances and tasks: ECS's scheduler and the capacity provider.

    It is told the time, and says what will happen when; the run keeps the calendar.
    """

    def __init__(self, machines: Machines, max_instances: int, chance: Random) -> None:
        self.machines = machines
        self.instances: list[Instance] = []
        self.bill = Bill()
        self.waiting = 0
        """Tasks that are wanted and have no instance."""
        self._max_instances = max_instances
        self._chance = chance
        self._receivers: list[Task] = []
        self._spare_periods = 0

    @property
    def tasks(self) -> Iterator[Task]:
        """Those on an instance that stays, starting ones included."""
        return (i.task for i in self.instances if i.task is not None and i.lost_at is None)

    @property
    def in_flight(self) -> int:
        """Videos in work."""
        return sum(len(i.task.ends) for i in self.instances if i.task is not None)

    def receiver(self) -> Task | None:
        """One of the tasks with a free slot: whose poll is answered is chance."""
        return self._chance.choice(self._receivers) if self._receivers else None

    def offer(self, task: Task) -> None:
        """Let it receive exactly as long as it has a free slot and a future."""
        may = len(task.ends) < self.machines.slots and task.instance.lost_at is None
        may = may and task.instance.task is task
        if may and task.place < 0:
            task.place = len(self._receivers)
            self._receivers.append(task)
        elif not may and task.place >= 0:
            last = self._receivers.pop()
            if last is not task:
                self._receivers[task.place] = last
                last.place = task.place
            task.place = -1

    def schedule_tasks(self, now: float, desired: int) -> list[Task]:
        """Have as many tasks as are wanted, as far as that can be; returns those that start."""
        present = list(self.tasks)
        for task in self._stoppable(now, present, len(present) - desired):
            self._remove(task)
            present.remove(task)
        self.waiting = max(0, desired - len(present))
        free = [i for i in self.instances if self._is_free(i) and i.ready_at <= now]
        started = [self._place(now, instance) for instance in free[: self.waiting]]
        self.waiting -= len(started)
        return started

    def scale_instances(self, now: float) -> list[Instance]:
        """Start instances for tasks that wait, or stop what is spare; returns those that start."""
        spare = [i for i in self.instances if self._is_free(i)]
        missing = self.waiting - len(spare)
        self._spare_periods = self._spare_periods + 1 if missing < 0 else 0
        if self._spare_periods >= self.machines.idle_periods:
            for instance in spare[self.waiting :]:
                self.end(now, instance)
            self._spare_periods = 0
        room = self._max_instances - len(self.instances)
        return [self._start(now) for _ in range(min(missing, self.machines.max_step, room))]

    def lifetime(self, instance: Instance) -> float | None:
        """After how many seconds it will be told that it is taken away; None: never."""
        if not instance.is_spot or not self.machines.losses_per_hour:
            return None
        return self._chance.expovariate(self.machines.losses_per_hour / 3600)

    def warn(self, now: float, instance: Instance) -> None:
        """The spot notice: its task receives no more."""
        instance.lost_at = now
        self.bill.losses += 1
        if instance.task is not None:
            self.offer(instance.task)

    def end(self, now: float, instance: Instance) -> None:
        """It is gone, and paid."""
        if instance.task is not None:
            self._remove(instance.task)
        self.instances.remove(instance)
        seconds = now - instance.started_at
        if instance.is_spot:
            self.bill.spot_seconds += seconds
        else:
            self.bill.on_demand_seconds += seconds

    def _stoppable(self, now: float, present: list[Task], count: int) -> Iterator[Task]:
        """Those that start first, then those that are idle and not protected any more."""
        ready = [task for task in present if task.ready_at <= now]
        resting = [
            task
            for task in ready
            if not task.ends and task.idle_since + self.machines.protection_seconds <= now
        ]
        starting = [task for task in present if task.ready_at > now]
        return iter([*starting, *resting][: max(0, count)])

    def _place(self, now: float, instance: Instance) -> Task:
        machines = self.machines
        seconds = (
            machines.task_restart_seconds if instance.had_task else machines.task_start_seconds
        )
        task = Task(instance, now + seconds, at=now + seconds, idle_since=now + seconds)
        instance.task, instance.had_task = task, True
        return task

    def _remove(self, task: Task) -> None:
        task.instance.task = None
        task.version += 1
        self.bill.busy_seconds += task.busy_seconds
        self.offer(task)

    def _start(self, now: float) -> Instance:
        steady = sum(not i.is_spot for i in self.instances)
        is_spot = steady >= self.machines.on_demand_base
        instance = Instance(now, is_spot, now + self.machines.instance_start_seconds)
        self.instances.append(instance)
        self.bill.starts += 1
        return instance

    @staticmethod
    def _is_free(instance: Instance) -> bool:
        return instance.task is None and instance.lost_at is None
