"""The parent's side of the fork server: a process that has loaded what decoders need, and forks.

Each decoder is a process of its own. To load numpy and FFmpeg anew for each would cost as much as
to decode two seconds of video. `multiprocessing` has a fork server, too; it takes on its parent's
environment, with the credentials in it.
"""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from typing import IO, Self

from inference.child import end_child, open_log, read_tail, start_child
from inference.errors import DecodersUnavailableError
from inference.slabs import Slabs
from inference.wire import MAX_LINE_BYTES, Order

_START_SECONDS = 60
"""Loading libraries from a cold disk takes its time."""
_ANSWER_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Forked:
    """A decoder process, which has the fork server for a parent."""

    pid: int
    _ends: "_Ends"
    _ending: "asyncio.Task[int]"
    _server: "_Server"
    _on_trouble: Callable[[str, str], None]

    @property
    def stdin(self) -> asyncio.WriteTransport:
        """What it reads."""
        return self._ends.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it says."""
        return self._ends.stdout

    async def wait(self) -> int:
        """Return the exit status when there is one; negative: the signal that ended it."""
        return await asyncio.shield(self._ending)

    async def end(self) -> int:
        """Kill it and all it started, see it reaped, return its exit status.

        One that has ended by itself keeps its own status.
        """
        try:
            with suppress(OSError):  # the server is gone, and its children with it
                self._ends.tether.write_eof()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await self.wait()
            except TimeoutError:
                if await self._server.answers():
                    return await self._abandon()
                self._server.kill("it does not answer")  # and no decoder outlives it
                return await self.wait()
        finally:
            self._ends.close()
            await asyncio.sleep(0)  # the loop closes them in its next round

    async def _abandon(self) -> int:
        """Leave it to the server, which was told and works: the kernel will not let it go yet.

        A decoder that waits for a broken disk is no reason to end all the others.
        """
        self._ending.cancel()
        await asyncio.wait([self._ending])
        self._on_trouble("decoder.stuck", f"process {self.pid} was killed and does not end")
        return -signal.SIGKILL


@dataclass(slots=True)
class _Server:
    """One life of the server."""

    process: Process
    requests: socket.socket
    stderr: IO[bytes]
    fault: str | None = None
    """Why there is to be another one."""

    @property
    def is_over(self) -> bool:
        """Whether it can be asked no more."""
        return self.fault is not None or self.process.returncode is not None

    def send(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Hand over a request and what belongs to it.

        Raises:
            DecodersUnavailableError: nobody is there to take it.
        """
        try:
            socket.send_fds(self.requests, [request], descriptors)
        except OSError as error:
            raise self.failure(f"it takes no requests: {error}") from error

    async def answers(self) -> bool:
        """Whether it still does its work: then what it does not end cannot be ended."""
        ours, theirs = socket.socketpair()
        words, writer = await asyncio.open_connection(sock=ours)
        try:
            with theirs:
                self.send(b"?", [theirs.fileno()])
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await words.readline() != b""
        except (TimeoutError, DecodersUnavailableError):
            return False
        finally:
            writer.close()

    def kill(self, why: str) -> None:
        """The next decoder gets a new server."""
        self.fault = self.fault or why
        with suppress(ProcessLookupError):
            self.process.kill()

    def failure(self, what: str) -> DecodersUnavailableError:
        """Do away with it, and say what it wrote before."""
        self.kill(what)
        tail = "" if self.stderr.closed else read_tail(self.stderr)
        return DecodersUnavailableError(f"the fork server: {what}: {tail or 'no output'}")


class ForkServer:
    """Starts decoders; itself started on first use, and again on the next use after its death."""

    def __init__(self, on_trouble: Callable[[str, str], None] = lambda *_: None) -> None:
        """`on_trouble` hears of what costs no video, but should be known: a name, and details."""
        self._on_trouble = on_trouble
        self._starting = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._server: _Server | None = None
        self.restarts = 0
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the server now, rather than with the first decoder.

        Raises:
            DecodersUnavailableError: it does not come up, or was closed.
        """
        await self._living()

    async def close(self) -> None:
        """End the server and all decoders; it starts no more."""
        async with self._starting:
            self._is_closed = True
            await self._stack.aclose()

    async def fork(self, order: Order, slabs: Slabs, stderr: IO[bytes]) -> Forked:
        """Start a decoder, which inherits the slabs and `stderr` and nothing else.

        Raises:
            DecodersUnavailableError: the server does not come up or does not answer, was closed,
                or the system has no room for another process.
        """
        try:
            return await self._ask(order, slabs, stderr)
        except DecodersUnavailableError:  # it may have died or hung since it was last used
            return await self._ask(order, slabs, stderr)

    async def _ask(self, order: Order, slabs: Slabs, stderr: IO[bytes]) -> Forked:
        server = await self._living()
        with ExitStack() as stack:
            with ExitStack() as theirs:
                stdin, stdin_ours = os.pipe()
                theirs.callback(os.close, stdin)
                into = stack.enter_context(os.fdopen(stdin_ours, "wb", 0))
                stdout_ours, stdout = os.pipe()
                theirs.callback(os.close, stdout)
                out_of = stack.enter_context(os.fdopen(stdout_ours, "rb", 0))
                tether_ours, tether = socket.socketpair()
                theirs.callback(tether.close)
                stack.callback(tether_ours.close)
                ends = await _connect(stack, into, out_of, tether_ours)
                given = [stdin, stdout, stderr.fileno(), slabs.fd, tether.fileno()]
                server.send(order.to_json().encode(), given)
            pid = await _read_pid(server, ends.words)
            stack.pop_all()
        ending = asyncio.create_task(_read_status(ends.words), name="decoder.ending")
        return Forked(pid, ends, ending, server, self._on_trouble)

    async def _living(self) -> _Server:
        async with self._starting:
            if self._is_closed:
                raise DecodersUnavailableError("the fork server was closed")
            former = self._server
            if former is not None and not former.is_over:
                return former
            await self._stack.aclose()
            if former is not None:
                self.restarts += 1
                why = former.fault or f"it ended with {former.process.returncode}"
                self._on_trouble("decoder.server_restarted", why)
            self._server = await self._start()
            return self._server

    async def _start(self) -> _Server:
        async with AsyncExitStack() as stack:
            stderr = stack.enter_context(open_log())
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            ours.setblocking(False)
            with theirs:
                process = await start_child(
                    "inference.forkserver_main",
                    [str(os.getpid()), str(theirs.fileno())],
                    environment=_environment(),
                    directory=None,
                    descriptors=[theirs.fileno()],
                    stderr=stderr,
                )
            stack.push_async_callback(end_child, process)
            if process.stdout is None:
                raise AssertionError("started with a pipe")
            server = _Server(process, ours, stderr)
            try:
                async with asyncio.timeout(_START_SECONDS):
                    ready = await process.stdout.readline()
            except TimeoutError as error:
                raise server.failure("it does not start") from error
            if not ready:
                raise server.failure("it does not start")
            self._stack = stack.pop_all()
        return server


async def _read_pid(server: _Server, words: asyncio.StreamReader) -> int:
    """Read the decoder's process id."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await words.readline()
    except TimeoutError as error:
        raise server.failure("it does not answer") from error
    if not answer:
        raise server.failure("it ended early")
    pid = int(answer)
    if pid < 0:
        raise DecodersUnavailableError(f"no decoder could be forked: {os.strerror(-pid)}")
    return pid


@dataclass(frozen=True, slots=True)
class _Ends:
    """Ours, of a decoder's pipes and of its tether."""

    stdin: asyncio.WriteTransport
    stdout: asyncio.StreamReader
    pipe: asyncio.ReadTransport
    """What `stdout` is filled from."""
    words: asyncio.StreamReader
    """What the server says of the decoder: its process id, then its exit status."""
    tether: asyncio.StreamWriter

    def close(self) -> None:
        """Let go of all of them."""
        for end in (self.stdin, self.pipe, self.tether):
            end.close()


async def _connect(
    stack: ExitStack, stdin: IO[bytes], stdout: IO[bytes], tether: socket.socket
) -> _Ends:
    """Put them into the loop."""
    loop = asyncio.get_running_loop()
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, stdin)
    stack.callback(writing.close)
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdout)
    stack.callback(reading.close)
    words, writer = await asyncio.open_connection(sock=tether)
    stack.callback(writer.close)
    return _Ends(writing, reader, reading, words, writer)


async def _read_status(words: asyncio.StreamReader) -> int:
    with suppress(ConnectionError):
        if status := await words.readline():
            return int(status)
    return -signal.SIGKILL  # the server is gone; none of its children outlives it


def _environment() -> dict[str, str]:
    """All that a decoder needs to know: no credential, no address, no setting of ours."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
