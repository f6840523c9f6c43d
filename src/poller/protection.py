"""Scale-in protection while there is work: the calls that `rules/protection.py` plans, made."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import assert_never

import structlog

from poller import ecs, metrics
from poller.ecs import Agent
from poller.errors import UnavailableError
from poller.rules import protection as rules
from poller.rules.protection import Call, Protect, Release, Rest, Standing, Terms

log = structlog.get_logger("poller.protection")


class Protection:
    """Keeps this ECS task protected while it works, and for a little while after."""

    def __init__(self, agent: Agent | None, terms: Terms) -> None:
        self._agent = agent
        self._terms = terms
        self._standing = Standing()
        self._in_flight = 0
        self._idle_since = 0.0
        self._one_call = asyncio.Lock()
        self._changed = asyncio.Event()

    def note_work(self, in_flight: int) -> None:
        """Hear how many messages are in work now."""
        self._in_flight = in_flight
        self._idle_since = asyncio.get_running_loop().time()
        self._changed.set()

    async def allows_work(self) -> bool:
        """Protect the task before a claim, if it is not; False: this task is to go, claim nothing.

        An agent that fails is no reason not to work: that is True, after two seconds at most.
        """
        if self._agent is not None:
            await self._advance(self._agent)
        return not self._standing.is_denied

    @asynccontextmanager
    async def kept(self, on_denied: Callable[[], None]) -> AsyncIterator[None]:
        """Renew and release while the body runs; call `on_denied` once when ECS denies."""
        if self._agent is None:
            yield
            return
        task = asyncio.create_task(self._keep(self._agent, on_denied), name="task-protection")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self, agent: Agent, on_denied: Callable[[], None]) -> None:
        while not self._standing.is_denied:
            self._changed.clear()
            until = await self._advance(agent)
            with contextlib.suppress(TimeoutError):  # nothing has changed, and a call is due
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
        on_denied()

    async def _advance(self, agent: Agent) -> float | None:
        """Make the call that is due, if one is; return when to look again."""
        async with self._one_call:
            step = self._plan()
            if not isinstance(step, Rest):
                await self._call(agent, step)
                step = self._plan()
            now = asyncio.get_running_loop().time()
            metrics.TASK_PROTECTION.set(rules.is_protected(self._standing, now))
            return step.until if isinstance(step, Rest) else now

    def _plan(self) -> Call | Rest:
        return rules.plan_call(
            self._standing,
            self._terms,
            in_flight=self._in_flight,
            idle_since=self._idle_since,
            now=asyncio.get_running_loop().time(),
        )

    async def _call(self, agent: Agent, call: Call) -> None:
        now, before = asyncio.get_running_loop().time(), self._standing
        self._standing = rules.asking(before, call, self._terms, now)
        try:
            answer = await self._ask(agent, call)
        except UnavailableError as error:
            self._standing = rules.unanswered(self._standing, now)
            self._note_failure(call, str(error))
            return
        match answer:
            case ecs.Agreed():
                self._standing = rules.agreed(call, self._terms, now)
                log.info("protection.changed", call=_name(call))
            case ecs.Denied(detail):
                self._standing = rules.denied(before)
                self._changed.set()
                log.warning("protection.denied", call=_name(call), detail=detail)
            case ecs.Refused(detail):
                self._standing = rules.refused(before, now)
                self._note_failure(call, detail)
            case _:
                assert_never(answer)

    async def _ask(self, agent: Agent, call: Call) -> ecs.Answer:
        match call:
            case Protect():
                return await agent.protect(math.ceil(self._terms.expiry_seconds / 60))
            case Release():
                return await agent.release()
            case _:
                assert_never(call)

    def _note_failure(self, call: Call, detail: str) -> None:
        metrics.ERRORS.labels("ecs").inc()
        log.warning("protection.failed", call=_name(call), detail=detail)


def _name(call: Call) -> str:
    return type(call).__name__.lower()
