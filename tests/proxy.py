"""A TCP proxy that can refuse, cut and hold: faults that a real server will not produce."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class _Trap:
    """Bytes of a client at which one direction is to stop."""

    marker: bytes
    stops: asyncio.Event
    """The direction: it flows while this is set."""


class Proxy:
    """Listens on a loopback port and passes bytes on to the real server."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._requests = asyncio.Event()
        self._requests.set()
        self._replies = asyncio.Event()
        self._replies.set()
        self._accepts = True
        self._allowance: int | None = None
        self._trap: _Trap | None = None
        self._asked: object = None
        """The connection of the request whose reply is to be held."""
        self._sprung = asyncio.Event()
        self.on_request: Callable[[bytes], None] = lambda _: None
        """Called with what clients send, piece by piece."""
        self.port = 0

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self._accepts = False
        for writer in self._writers:
            writer.close()

    def hold(self) -> None:
        """Go on accepting, and pass nothing on: a server that never answers."""
        self._requests.clear()
        self._replies.clear()

    def hold_after(self, count: int) -> None:
        """Pass so many more bytes on, then hold."""
        self._allowance = count

    def hold_requests_at(self, marker: bytes) -> None:
        """Hold all requests from the one on that contains `marker`: the server never sees it."""
        self._set_trap(_Trap(marker, self._requests))

    def hold_replies_at(self, marker: bytes) -> None:
        """Let the request that contains `marker` through, and hold all replies from then on.

        The hold begins with the reply to it: what was asked for has been done then.
        """
        self._set_trap(_Trap(marker, self._replies))

    async def held(self, seconds: float = 60) -> None:
        """Wait until a hold of the kinds above has begun."""
        async with asyncio.timeout(seconds):
            await self._sprung.wait()

    def restore(self) -> None:
        """Work again."""
        self._accepts = True
        self._allowance = None
        self._trap = None
        self._requests.set()
        self._replies.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection in both directions."""
        if not self._accepts:
            writer.close()
            return
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._writers |= {writer, upstream}
        try:
            await asyncio.gather(
                self._pump(reader, upstream, self._requests, of=writer),
                self._pump(upstream_reader, writer, self._replies, of=writer),
            )
        finally:
            self._writers -= {writer, upstream}
            writer.close()
            upstream.close()

    def _set_trap(self, trap: _Trap) -> None:
        self._trap, self._asked = trap, None
        self._sprung.clear()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        flows: asyncio.Event,
        *,
        of: object,
    ) -> None:
        with suppress(ConnectionError):  # one end went away, and so does the other
            try:
                while data := await source.read(65536):
                    self._look_at(data, of, is_request=flows is self._requests)
                    await flows.wait()
                    target.write(data)
                    await target.drain()
            finally:
                target.close()

    def _look_at(self, data: bytes, connection: object, *, is_request: bool) -> None:
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance <= 0:
                self.hold()
                self._sprung.set()
        if not is_request:
            if connection is self._asked:
                self._sprung.set()
            return
        self.on_request(data)
        if self._trap is not None and self._trap.marker in data:
            self._trap.stops.clear()
            if self._trap.stops is self._replies:
                self._asked = connection
            else:
                self._sprung.set()
            self._trap = None


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
