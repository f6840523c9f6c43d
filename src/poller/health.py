"""HTTP: `/metrics`, `/healthz` (is it alive) and `/readyz` (can it work)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from poller.errors import SettingsError

Check = Callable[[], Awaitable[list[str]]]
"""Names what is wrong; empty when all is well."""


@asynccontextmanager
async def serve(
    port: int, alive: Check, ready: Check, refresh: Callable[[], None]
) -> AsyncIterator[int]:
    """Serve on all IPv4 interfaces; yields the port, which differs from `port` where that is 0.

    Args:
        port: TCP port.
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
        # One address family: with two, port 0 would be a different port in each.
        site = web.TCPSite(runner, "0.0.0.0", port)  # noqa: S104 - Prometheus comes from outside
        try:
            await site.start()
        except OSError as error:
            raise SettingsError([f"POLLER_HTTP_PORT={port}: {error.strerror}"]) from error
        yield runner.addresses[0][1]
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
