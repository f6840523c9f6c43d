"""The claim protocol under any order of its steps, and mutants of it, which do not survive that."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.frozen_store import FrozenStore
from tests.protocol import LEASE, BreachError, Job, Protocol, Worker, World, make_world
from tests.protocol_mutants import (
    DELETE_BEFORE_COMMIT,
    DELETE_ON_BUSY,
    FENCE_FIRST,
    NO_FENCE,
    NO_FENCE_NO_KEY,
)

from poller.errors import PermanentError, RetryableError
from poller.postgres.claims import Claimed
from poller.rules.verdict import Ack, Leave

WORKERS = ("a", "b", "c")
SPANS = [timedelta(seconds=seconds) for seconds in (31, 91, 901)]


class Steps(RuleBasedStateMachine):
    """Any worker takes any step that it could take; between two steps anything may happen."""

    def __init__(self, world: World, runner: asyncio.Runner) -> None:
        super().__init__()
        self.world = world
        self.run = runner.run
        self.crashes_left = 1
        """More would leave few who are overtaken and live."""

    def idle(self) -> list[Worker]:
        """Who could receive."""
        return [worker for worker in self.world.workers.values() if worker.job is None]

    def jobs(self, *, claimed: bool) -> list[tuple[Worker, Job]]:
        """Who has a message, and has or has not claimed its video, and could go on."""
        return [
            (worker, job)
            for worker in self.world.workers.values()
            if (job := worker.job)
            and not (job.verdict or job.frozen)
            and (job.claim is not None) is claimed
        ]

    def holders(self) -> list[Worker]:
        """Who has claimed a video and has not given it up, standing still or not."""
        jobs = [(worker, worker.job) for worker in self.world.workers.values()]
        return [worker for worker, job in jobs if job and job.claim and not job.verdict]

    def claimed(self, which: int) -> tuple[Worker, Job, Claimed]:
        """One of those who have claimed a video and could go on."""
        jobs = self.jobs(claimed=True)
        worker, job = jobs[which % len(jobs)]
        assert job.claim is not None
        return worker, job, job.claim

    @initialize(is_late=st.booleans())
    def begin(self, *, is_late: bool) -> None:
        """S3 and the application both tell of the upload; perhaps somebody is late already."""
        world = self.world
        self.run(world.reset(WORKERS))
        world.announce()
        world.announce()
        if is_late:
            late = world.workers["a"]
            world.receive(late)
            assert late.job is not None
            self.run(world.claim(late, late.job))
            self.run(world.pass_time(LEASE))

    @precondition(lambda self: len(self.world.queue) < 3)
    @rule()
    def announce(self) -> None:
        """Somebody tells of the upload once more."""
        self.world.announce()

    @precondition(lambda self: self.world.revision < 4 and not self.world.queue)
    @rule()
    def overwrite(self) -> None:
        """Other bytes under the same key, announced twice, too."""
        self.world.revision += 1
        self.world.announce()
        self.world.announce()

    @precondition(lambda self: self.holders() or not self.world.visible())
    @rule(span=st.sampled_from(SPANS))
    def pass_time(self, span: timedelta) -> None:
        """Nobody does anything."""
        self.run(self.world.pass_time(span))

    @precondition(lambda self: self.idle() and self.world.visible())
    @rule(which=st.integers(0, 2))
    def receive(self, which: int) -> None:
        """Somebody takes a message."""
        idle = self.idle()
        self.world.receive(idle[which % len(idle)])

    @precondition(lambda self: self.jobs(claimed=False))
    @rule(which=st.integers(0, 2), times=st.integers(1, 2))
    def claim(self, which: int, times: int) -> None:
        """Somebody claims, and perhaps hears of it only the second time."""
        jobs = self.jobs(claimed=False)
        self.run(self.world.claim(*jobs[which % len(jobs)], times=times))

    @precondition(lambda self: self.holders() and self.idle())
    @rule(which=st.integers(0, 2))
    def overtake(self, which: int) -> None:
        """Let a lease run out, and somebody else claim: steps that chance seldom puts together."""
        self.run(self.world.pass_time(LEASE + timedelta(seconds=1)))
        if not self.world.visible():
            self.world.announce()
        idle = self.idle()
        rival = idle[which % len(idle)]
        self.world.receive(rival)
        assert rival.job is not None
        self.run(self.world.claim(rival, rival.job))

    @precondition(lambda self: self.jobs(claimed=True))
    @rule(which=st.integers(0, 2))
    def beat(self, which: int) -> None:
        """Somebody extends what it believes to be its lease."""
        self.run(self.world.beat(*self.claimed(which)))

    @precondition(lambda self: self.jobs(claimed=True))
    @rule(which=st.integers(0, 2))
    def keep_a_checkpoint(self, which: int) -> None:
        """Somebody keeps what it has measured so far."""
        *_, claim = self.claimed(which)
        self.run(self.world.keep(claim))

    @precondition(lambda self: self.jobs(claimed=True))
    @rule(which=st.integers(0, 2), is_heard=st.booleans())
    def store(self, which: int, *, is_heard: bool) -> None:
        """Somebody stores, and perhaps never hears of it."""
        self.run(self.world.store(*self.claimed(which), is_heard=is_heard))

    @precondition(lambda self: self.jobs(claimed=True))
    @rule(which=st.integers(0, 2))
    def freeze_in_the_middle_of_a_store(self, which: int) -> None:
        """Somebody stops in the middle of its COPY, with the transaction open."""
        _, job, claim = self.claimed(which)
        job.frozen = FrozenStore(self.world.url, self.world.protocol.results, claim)

    @precondition(lambda self: any(worker.job.frozen for worker in self.holders()))
    @rule(which=st.integers(0, 2))
    def thaw(self, which: int) -> None:
        """Somebody who stood still goes on, with its old token."""
        frozen = [worker for worker in self.holders() if worker.job and worker.job.frozen]
        worker = frozen[which % len(frozen)]
        assert worker.job is not None
        assert worker.job.claim is not None
        self.run(self.world.thaw(worker, worker.job, worker.job.claim))

    @precondition(lambda self: self.jobs(claimed=True))
    @rule(which=st.integers(0, 2), error=st.sampled_from([PermanentError, RetryableError]))
    def fail(self, which: int, error: type[PermanentError | RetryableError]) -> None:
        """Somebody fails, for good or until later."""
        worker, job, _ = self.claimed(which)
        self.run(self.world.stop(worker, job, error("reason", "detail")))

    @precondition(lambda self: self.jobs(claimed=True))
    @rule(which=st.integers(0, 2))
    def drain(self, which: int) -> None:
        """Somebody is told to leave."""
        self.run(self.world.drain(*self.claimed(which)))

    @precondition(lambda self: any(w.job and w.job.verdict for w in self.world.workers.values()))
    @rule(which=st.integers(0, 2))
    def settle(self, which: int) -> None:
        """Somebody does with its message as was decided, perhaps long ago."""
        judged = [w for w in self.world.workers.values() if w.job and w.job.verdict]
        worker = judged[which % len(judged)]
        assert worker.job is not None
        self.run(self.world.settle(worker, worker.job))

    @precondition(lambda self: self.crashes_left and self.holders())
    @rule(which=st.integers(0, 2))
    def crash(self, which: int) -> None:
        """Somebody dies at its work."""
        self.crashes_left -= 1
        holders = self.holders()
        self.world.crash(holders[which % len(holders)])

    @invariant()
    def nothing_is_broken(self) -> None:
        """Nothing is stored that must not be."""
        self.run(self.world.check())

    def teardown(self) -> None:
        """Whatever happened, everything comes to its end."""
        self.run(self.world.end_quietly())


def explore(url: str, protocol: Protocol, *, examples: int) -> None:
    """Run the steps in so many orders, the same ones each time."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        world = runner.run(make_world(url, protocol, stack))
        try:
            run_state_machine_as_test(
                lambda: Steps(world, runner),  # type: ignore[arg-type]  # it only calls it
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=40,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())


def test_nothing_is_lost_or_doubled(database_url: str) -> None:
    """Whatever comes between two steps: one result each, no message lost, attempts as counted."""
    explore(database_url, Protocol(), examples=60)


@pytest.mark.parametrize(
    ("protocol", "breach"),
    [
        (NO_FENCE_NO_KEY, "committed|rows of nobody"),
        (FENCE_FIRST, "stands still holds another up"),
        (DELETE_BEFORE_COMMIT, "deleted while its video is processing"),
        (DELETE_ON_BUSY, "deleted while its video is"),
    ],
    ids=["no fence", "fence first", "delete before commit", "delete on busy"],
)
def test_a_mutant_is_caught(database_url: str, protocol: Protocol, breach: str) -> None:
    """The same steps break each protocol that leaves out one of the four precautions."""
    with pytest.raises(BreachError, match=breach):
        explore(database_url, protocol, examples=300)


async def overtaken(world: World) -> list[tuple[Worker, Job, Claimed]]:
    """Two workers with the same video: the first stands still in its COPY, its lease is over."""
    await world.reset(WORKERS)
    found = []
    for worker in (world.workers["a"], world.workers["b"]):
        world.announce()
        world.receive(worker)
        assert worker.job is not None
        await world.claim(worker, worker.job)
        assert worker.job.claim is not None
        found.append((worker, worker.job, worker.job.claim))
        if len(found) == 1:
            worker.job.frozen = await asyncio.to_thread(
                FrozenStore, world.url, world.protocol.results, worker.job.claim
            )
            await world.pass_time(LEASE)
    return found


async def test_a_store_that_stands_still_holds_nobody_up(database_url: str) -> None:
    """Frozen in the middle of its COPY, a worker is overtaken; thawed, it stores nothing."""
    async with AsyncExitStack() as stack:
        world = await make_world(database_url, Protocol(), stack)
        first, second = await overtaken(world)
        await world.store(*second)
        await world.thaw(*first)
        await world.check()

        assert isinstance(second[1].verdict, Ack)
        assert isinstance(first[1].verdict, Leave)
        assert list(world.commits.values()) == [1]


async def test_a_fence_taken_before_the_copy_holds_everybody_up(database_url: str) -> None:
    """No claim gets past the row lock of a worker that stands still."""
    async with AsyncExitStack() as stack:
        world = await make_world(database_url, FENCE_FIRST, stack)
        with pytest.raises(BreachError, match="stands still holds another up"):
            await overtaken(world)
        world.crash(world.workers["a"])


async def test_the_database_is_a_second_fence(database_url: str) -> None:
    """Code that forgets the fence adds nothing to what another has stored: the key refuses it."""
    async with AsyncExitStack() as stack:
        world = await make_world(database_url, NO_FENCE, stack)
        first, second = await overtaken(world)
        await world.store(*second)
        with pytest.raises(BreachError, match="up to the foreign key"):
            await world.thaw(*first)
        await world.check()

        assert list(world.commits.values()) == [1]
