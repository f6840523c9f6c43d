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
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Self

from inference.child import end_child, open_log, read_tail, start_child
from inference.errors import DecoderFailedError
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
    _give_up: Callable[[], None]
    """Do away with the server."""

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
            except TimeoutError:  # the server hangs: no decoder outlives it
                self._give_up()
                return await self.wait()
        finally:
            self._ends.close()
            await asyncio.sleep(0)  # the loop closes them in its next round


class ForkServer:
    """Starts decoders; itself started on first use, and again on the next use after its death."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._process: Process | None = None
        self._requests: socket.socket | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the server now, rather than with the first decoder.

        Raises:
            DecoderFailedError: it does not come up.
        """
        await self._living()

    async def close(self) -> None:
        """End the server and all decoders."""
        async with self._starting:
            self._process = self._requests = None
            await self._stack.aclose()

    async def fork(self, order: Order, slabs: Slabs, stderr: IO[bytes]) -> Forked:
        """Start a decoder, which inherits the slabs and `stderr` and nothing else.

        Raises:
            DecoderFailedError: the server does not come up or does not answer.
            OSError: the system has no room for another process.
        """
        try:
            return await self._ask(order, slabs, stderr)
        except DecoderFailedError:  # it died or hung meanwhile: that is not this video's fault
            return await self._ask(order, slabs, stderr)

    async def _ask(self, order: Order, slabs: Slabs, stderr: IO[bytes]) -> Forked:
        server, requests = await self._living()
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
                try:
                    socket.send_fds(requests, [order.to_json().encode()], given)
                except OSError as error:
                    raise self._failure(server, f"it takes no requests: {error}") from error
            pid = await self._answer(server, ends.words)
            stack.pop_all()
        ending = asyncio.create_task(_read_status(ends.words), name="decoder.ending")
        return Forked(pid, ends, ending, partial(self._give_up, server))

    async def _answer(self, server: Process, words: asyncio.StreamReader) -> int:
        """Read the decoder's process id."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await words.readline()
        except TimeoutError as error:
            raise self._failure(server, "it does not answer") from error
        if not answer:
            raise self._failure(server, "it ended early")
        pid = int(answer)
        if pid < 0:
            raise OSError(-pid, f"no decoder could be forked: {os.strerror(-pid)}")
        return pid

    async def _living(self) -> tuple[Process, socket.socket]:
        async with self._starting:
            if self._process is not None and self._process.returncode is not None:
                self._process = None
            if self._process is None or self._requests is None:
                await self._stack.aclose()
                self._process, self._requests = await self._start()
            return self._process, self._requests

    async def _start(self) -> tuple[Process, socket.socket]:
        async with AsyncExitStack() as stack:
            self._stderr = stack.enter_context(open_log())
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
                    stderr=self._stderr,
                )
            stack.push_async_callback(end_child, process)
            if process.stdout is None:
                raise AssertionError("started with a pipe")
            try:
                async with asyncio.timeout(_START_SECONDS):
                    ready = await process.stdout.readline()
            except TimeoutError as error:
                raise self._failure(process, "it does not start") from error
            if not ready:
                raise self._failure(process, "it does not start")
            self._stack = stack.pop_all()
        return process, ours

    def _give_up(self, server: Process) -> None:
        """The next decoder gets a new server."""
        if self._process is server:
            self._process = None
        with suppress(ProcessLookupError):
            server.kill()

    def _failure(self, server: Process, what: str) -> DecoderFailedError:
        self._give_up(server)
        detail = f"the fork server: {what}: {read_tail(self._stderr) or 'no output'}"
        return DecoderFailedError("decoder_crashed", detail)


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
