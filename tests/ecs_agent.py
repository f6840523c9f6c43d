"""A small server that keeps the ECS agent's contract for task protection, its refusals included.

Status codes, names and texts are those of the agent's own handlers: a field that it does not know
is a bad request, and ECS's refusal of a task comes with HTTP 200.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

TASK = "arn:aws:ecs:eu-west-1:111122223333:task/video/1234567890abcdef0"
_PATH = "/api/4cd3c1f0-1234567890/task-protection/v1/state"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent says instead of yes."""

    status: int
    body: str


def make_failure(reason: str, detail: str | None = None) -> Reply:
    """ECS answered, and refused."""
    return Reply(200, json.dumps({"failure": {"Arn": TASK, "Detail": detail, "Reason": reason}}))


def make_error(status: int, code: str, message: str) -> Reply:
    """ECS, or the way to it, failed."""
    error = {"Arn": TASK, "Code": code, "Message": message}
    return Reply(status, json.dumps({"requestID": "12345-abc", "error": error}))


BLOCKED = make_failure("DEPLOYMENT_BLOCKED")
NOT_VALID = make_failure("TASK_NOT_VALID")
THROTTLED = make_error(400, "ThrottlingException", "Rate exceeded")
FORBIDDEN = make_error(400, "AccessDeniedException", "User is not authorized to perform")
NO_ROLE = make_error(403, "AccessDeniedException", "no task IAM role credentials available")
TIMED_OUT = make_error(504, "RequestCanceled", "Timed out calling ECS Task Protection API")
BROKEN = make_error(500, "ServerException", "Unexpected error occurred")
GARBAGE = Reply(200, "<html>it works!</html>")


class EcsAgent:
    """Says yes until it is told otherwise, and remembers what it was asked."""

    def __init__(self) -> None:
        self.uri = ""
        self.calls: list[dict[str, object]] = []
        """Every request that keeps the contract."""
        self.times: list[float] = []
        """When they came, in the event loop's time."""
        self.reply: Reply | None = None
        """Said instead of yes."""
        self.on_call: Callable[[], Awaitable[None]] | None = None
        """Awaited before a reply."""
        self.is_silent = False
        """Take requests and never answer."""
        self._called = asyncio.Condition()
        self._over = asyncio.Event()

    async def called(self, times: int, seconds: float = 60) -> list[dict[str, object]]:
        """Wait for so many calls since the start; returns all."""
        async with asyncio.timeout(seconds), self._called:
            await self._called.wait_for(lambda: len(self.calls) >= times)
        return self.calls

    def end(self) -> None:
        """Let go of the requests that were never answered."""
        self._over.set()

    async def put(self, request: web.Request) -> web.Response:
        """Answer as `UpdateTaskProtection` does."""
        try:
            wanted = json.loads(await request.read())
        except ValueError:
            wanted = None
        known = {"ProtectionEnabled": bool, "ExpiresInMinutes": int}
        if not isinstance(wanted, dict) or not wanted.keys() <= known.keys():
            return _answer(make_error(400, "InvalidParameterException", "failed to decode request"))
        minutes = wanted.get("ExpiresInMinutes", 120)
        if not isinstance(wanted.get("ProtectionEnabled"), bool) or not 1 <= minutes <= 2880:
            return _answer(make_error(400, "InvalidParameterException", "Invalid request"))
        async with self._called:
            self.calls.append(wanted)
            self.times.append(asyncio.get_running_loop().time())
            self._called.notify_all()
        if self.is_silent:
            await self._over.wait()
        if self.on_call is not None:
            await self.on_call()
        return _answer(self.reply or _make_yes(enabled=wanted["ProtectionEnabled"]))


def _make_yes(*, enabled: bool) -> Reply:
    protection: dict[str, object] = {"ProtectionEnabled": enabled, "TaskArn": TASK}
    if enabled:
        protection["ExpirationDate"] = "2022-10-06T02:29:16Z"
    return Reply(200, json.dumps({"protection": protection}))


def _answer(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, text=reply.body, content_type="application/json")


@asynccontextmanager
async def ecs_agent() -> AsyncIterator[EcsAgent]:
    """Serve on a loopback port."""
    agent = EcsAgent()
    async with served(web.put(_PATH, agent.put)) as url:
        agent.uri = url + _PATH.removesuffix("/task-protection/v1/state")
        try:
            yield agent
        finally:
            agent.end()


@asynccontextmanager
async def served(*routes: web.RouteDef) -> AsyncIterator[str]:
    """Serve routes on a loopback port; yields the URL without a path."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
