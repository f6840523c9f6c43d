"""The ECS agent of this task: scale-in protection, asked for and given back.

The contract is `$ECS_AGENT_URI/task-protection/v1/state` as the agent's source has it: ECS's own
refusal comes with HTTP 200 and a `failure`, everything else that goes wrong with an `error`.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from poller.errors import UnavailableError

_PATH = "/task-protection/v1/state"
_PATIENCE_SECONDS = 2.0
"""A message waits this long for its protection; without an answer it is worked on without."""
_DENIAL = "DEPLOYMENT_BLOCKED"


@dataclass(frozen=True, slots=True)
class Agreed:
    """The task's protection is now what was asked for."""


@dataclass(frozen=True, slots=True)
class Denied:
    """No protection: more tasks would be protected than are wanted, so this one is to go."""

    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing has changed, for a reason that says nothing about the task's future."""

    detail: str


Answer = Agreed | Denied | Refused


class Agent:
    """The agent on this task's host. Created by `open_agent`."""

    def __init__(self, session: aiohttp.ClientSession, uri: str) -> None:
        self._session = session
        self._url = uri.rstrip("/") + _PATH

    async def protect(self, minutes: int) -> Answer:
        """Ask that scale-in and deployments leave this task alone for 1 to 2,880 minutes.

        Raises:
            UnavailableError: no answer that can be understood; it may have been carried out.
        """
        return await self._put({"ProtectionEnabled": True, "ExpiresInMinutes": minutes})

    async def release(self) -> Answer:
        """Tell ECS that this task may be stopped.

        Raises:
            UnavailableError: no answer that can be understood; it may have been carried out.
        """
        return await self._put({"ProtectionEnabled": False})

    async def _put(self, wanted: dict[str, object]) -> Answer:
        try:
            async with self._session.put(self._url, json=wanted, allow_redirects=False) as response:
                return parse_answer(response.status, await response.read(), wanted)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError("ecs", str(error) or "the agent does not answer") from error


@asynccontextmanager
async def open_agent(uri: str) -> AsyncIterator[Agent]:
    """Speak to the agent at `uri`, never through a proxy."""
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield Agent(session, uri)


def parse_answer(status: int, body: bytes, wanted: dict[str, object]) -> Answer:
    """Read what the agent says of a request.

    Args:
        status: of HTTP.
        body: JSON with `protection`, `failure` (`Reason`, `Detail`) or `error` (`Code`, `Message`).
        wanted: the request.

    Raises:
        UnavailableError: it cannot be understood, or says that the request may have got through.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UnavailableError("ecs", f"HTTP {status}, and no JSON object")
    for name in ("failure", "error"):
        if isinstance(said.get(name), dict):
            return _parse_refusal(status, said[name])
    protection = said.get("protection")
    if status != 200 or not isinstance(protection, dict):
        raise UnavailableError("ecs", f"HTTP {status}, and neither protection, failure nor error")
    if protection.get("ProtectionEnabled") is not wanted["ProtectionEnabled"]:
        return Refused(f"ProtectionEnabled is {protection.get('ProtectionEnabled')}")
    return Agreed()


def _parse_refusal(status: int, fault: dict[str, Any]) -> Answer:
    fields = ("Reason", "Code", "Detail", "Message")
    detail = ": ".join(str(fault[field]) for field in fields if fault.get(field)) or "no reason"
    if _DENIAL in detail:
        return Denied(detail)
    if status >= 500:
        raise UnavailableError("ecs", f"HTTP {status}, {detail}")
    return Refused(detail)
