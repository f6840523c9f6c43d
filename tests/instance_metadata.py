"""A small server that keeps the contract of EC2's instance metadata, second version."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import web

from tests.ecs_agent import served


class InstanceMetadata:
    """Has no spot notice until it is given one. Requests without a valid token get a 401."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.notice: str | None = None
        """Body of `spot/instance-action`; None: 404."""
        self.asked = 0
        """Requests for the notice that were answered."""
        self.tokens = 0
        """Tokens given so far; only the last one is valid."""
        self.gives_tokens = True
        self._was_asked = asyncio.Condition()

    def take_away(self, at: datetime, action: str = "terminate") -> None:
        """Say that the instance will go."""
        self.notice = json.dumps({"action": action, "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def expire_token(self) -> None:
        """Accept the token that was given no more."""
        self.tokens += 1

    async def was_asked(self, times: int, seconds: float = 10) -> None:
        """Wait until the notice was asked for so many times."""
        async with asyncio.timeout(seconds), self._was_asked:
            await self._was_asked.wait_for(lambda: self.asked >= times)

    async def put_token(self, request: web.Request) -> web.Response:
        """Give a session token, which needs a time to live."""
        if not self.gives_tokens:
            return web.Response(status=403)
        if not request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
            return web.Response(status=400)
        self.tokens += 1
        return web.Response(text=f"token-{self.tokens}")

    async def get_notice(self, request: web.Request) -> web.Response:
        """Give the notice, if there is one."""
        if request.headers.get("X-aws-ec2-metadata-token") != f"token-{self.tokens}":
            return web.Response(status=401)
        async with self._was_asked:
            self.asked += 1
            self._was_asked.notify_all()
        if self.notice is None:
            return web.Response(status=404)
        return web.Response(text=self.notice)


@asynccontextmanager
async def instance_metadata() -> AsyncIterator[InstanceMetadata]:
    """Serve on a loopback port."""
    metadata = InstanceMetadata()
    async with served(
        web.put("/latest/api/token", metadata.put_token),
        web.get("/latest/meta-data/spot/instance-action", metadata.get_notice),
    ) as url:
        metadata.endpoint = url
        yield metadata
