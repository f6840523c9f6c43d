"""A TCP proxy that can refuse, cut and hold: faults that a real server will not produce."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Listens on a loopback port and passes bytes on to the real server."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._accepts = True
        self._allowance: int | None = None
        self.port = 0

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self._accepts = False
        for writer in self._writers:
            writer.close()

    def hold(self) -> None:
        """Go on accepting, and pass nothing on: a server that never answers."""
        self._flows.clear()

    def hold_after(self, count: int) -> None:
        """Pass so many more bytes on from the server, then hold."""
        self._allowance = count

    def restore(self) -> None:
        """Work again."""
        self._accepts = True
        self._allowance = None
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection in both directions."""
        if not self._accepts:
            writer.close()
            return
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._writers |= {writer, upstream}
        try:
            await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer))
        finally:
            self._writers -= {writer, upstream}
            writer.close()
            upstream.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self._allowance is not None:
                    self._allowance -= len(data)
                    if self._allowance <= 0:
                        self._flows.clear()
                await self._flows.wait()
                target.write(data)
                await target.drain()
        except ConnectionError:
            return
        finally:
            target.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """A proxy in front of the server that `url` names, and the URL that goes through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    login = parts.netloc.rpartition("@")[0]
    netloc = f"{login}@127.0.0.1:{proxy.port}" if login else f"127.0.0.1:{proxy.port}"
    try:
        yield urlunsplit(parts._replace(netloc=netloc)), proxy
    finally:
        proxy.restore()
        proxy.cut()
        server.close()
