"""HTTP: `/metrics`, `/healthz` (is it alive) and `/readyz` (can it work)."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from poller.errors import SettingsError

Check = Callable[[], Awaitable[list[str]]]
"""Names what is wrong; empty when all is well."""


@contextmanager
def reserved(port: int) -> Iterator[socket.socket]:
    """Take a TCP port on all IPv4 interfaces, any free one for 0, before what takes long to start.

    Raises:
        SettingsError: it is taken.
    """
    # One address family: with two, port 0 would be a different port in each.
    with socket.socket(socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", port))  # noqa: S104 - Prometheus comes from outside
        except OSError as error:
            raise SettingsError([f"POLLER_HTTP_PORT={port}: {error.strerror}"]) from error
        yield listener


@asynccontextmanager
async def serve(
    listener: socket.socket, alive: Check, ready: Check, refresh: Callable[[], None]
) -> AsyncIterator[int]:
    """Serve on a port that was reserved; yields its number.

    Args:
        listener: of `reserved`.
        alive: what `/healthz` asks.
        ready: what `/readyz` asks.
        refresh: brings gauges up to date before a scrape.
    """

    async def scrape(_: web.Request) -> web.Response:
        refresh()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/healthz", _answer(alive))
    app.router.add_get("/readyz", _answer(ready))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        port: int = listener.getsockname()[1]
        try:
            await web.SockSite(runner, listener).start()
        except OSError as error:  # somebody else has begun to listen there since
            raise SettingsError([f"POLLER_HTTP_PORT={port}: {error.strerror}"]) from error
        yield port
    finally:
        await runner.cleanup()


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        faults = await check()
        return web.json_response(
            {"status": "failing" if faults else "ok", "faults": faults},
            status=503 if faults else 200,
        )

    return answer
