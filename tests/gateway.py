"""An HTTP proxy in front of a real server that can refuse single operations, as AWS would."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

_OWN_HEADERS = {"Content-Length", "Transfer-Encoding", "Content-Encoding", "Connection"}
THROTTLED = "RequestThrottled"


class Gateway:
    """Passes requests of SQS's JSON protocol on, but for those that it is told to refuse."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._refused: set[str] = set()
        self.refusals = 0

    def throttle(self, *operations: str) -> None:
        """Answer these, such as `ReceiveMessage`, with 400 and a throttling error."""
        self._refused |= set(operations)

    def restore(self) -> None:
        """Pass everything on again."""
        self._refused.clear()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation in self._refused:
            self.refusals += 1
            return _throttled()
        async with self._session.request(
            request.method,
            self._url + request.path_qs,
            data=await request.read(),
            headers=request.headers,
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k not in _OWN_HEADERS}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


def _throttled() -> web.Response:
    said = {"__type": f"com.amazonaws.sqs#{THROTTLED}", "message": "Rate exceeded"}
    return web.Response(
        status=400,
        body=json.dumps(said),
        headers={
            "Content-Type": "application/x-amz-json-1.0",
            "x-amzn-query-error": f"{THROTTLED};Sender",
        },
    )


@asynccontextmanager
async def throttling(url: str) -> AsyncIterator[tuple[str, Gateway]]:
    """A gateway in front of the server that `url` names, and the URL that goes through it."""
    async with aiohttp.ClientSession(auto_decompress=True) as session:
        gateway = Gateway(url.rstrip("/"), session)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", gateway.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", gateway
        finally:
            gateway.restore()
            await runner.cleanup()
