"""The parent's side of a decoder process: start it, read it, bound it, end it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, assert_never

import numpy as np

from inference.child import open_log, read_tail
from inference.errors import DecoderFailedError, VideoRejectedError
from inference.forkserver import Forked, ForkServer
from inference.frames import LONG_SIDE, FrameBatch, Gap
from inference.moments import Moment
from inference.sampling import Rate
from inference.slabs import Slabs
from inference.wire import (
    Alive,
    Changed,
    Filled,
    Finished,
    Message,
    Opened,
    Order,
    OutOfMemory,
    Rejected,
    WireError,
    parse_line,
)

_READ_BYTES_PER_SECOND = 32 << 20
"""A slow disk: opening reads the whole file, in silence, and gets the time for that."""
_EXIT_SECONDS = 5
_MEMORY_SIGNS = ("cannot allocate memory", "memoryerror", "bad_alloc", "failed to map segment")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one video may cost."""

    max_seconds: float
    """Presentation time; a longer video is rejected."""
    stall_seconds: float = 30.0
    """Silence of the decoder after which it counts as hung."""
    total_seconds: float = 4 * 3600.0
    """Time spent waiting for the decoder, and its CPU time for each thread."""
    memory_bytes: int = 3 << 30
    """Address space of the decoder process; about 0.4 GiB of it are code."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which frames of which file to decode, and how."""

    path: Path
    sample_fps: Rate
    batch_size: int
    threads: int
    tolerant: bool
    """Use the backend that trusts nothing; otherwise the cheapest that can be trusted."""
    frame_side: int = LONG_SIDE
    """Of the frames, the longer side, at most; pixels."""
    after_ms: float | None = None
    """Go on behind the frame shown at this time; None: from the start."""
    moments: Sequence[Moment] | None = None
    """Show these, larger, instead of a sample."""
    spans: Sequence[tuple[float, float]] | None = None
    """Tell where in these the picture changes most, instead of a sample."""


class Decoding:
    """One run of a decoder over one file; an async context manager.

    Iterate it for batches and gaps in presentation order, and release each batch: the decoder
    waits while all slabs are held. Leaving the context kills whatever still runs; nothing is
    left behind, whichever way it is left.
    """

    opened: Opened
    """What the probe found; there once the context is entered."""

    def __init__(
        self,
        server: ForkServer,
        request: Request,
        limits: Limits,
        slabs: Slabs,
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_alive` is called when the decoder says that it works, between batches too."""
        self._server = server
        self._request = request
        self._on_alive = on_alive
        self._limits = limits
        self._slabs = slabs
        self._held: set[int] = set()
        self._waited = 0.0
        self._decoded = 0
        self._stack = AsyncExitStack()
        self.finished: Finished | None = None
        self.changes: list[Changed] = []

    @property
    def pid(self) -> int:
        """Process id of the decoder."""
        return self._process.pid

    @property
    def decoded(self) -> int:
        """Source frames passed, as far as the decoder has told."""
        return self.finished.decoded if self.finished else self._decoded

    async def __aenter__(self) -> Self:
        """Start the decoder and wait for its probe.

        Raises:
            VideoRejectedError: the probe refused the file.
            DecoderFailedError: the decoder crashed, hung or ran out of memory.
        """
        async with AsyncExitStack() as stack:
            self._stderr = stack.enter_context(open_log())
            self._process = await self._start()
            stack.push_async_callback(self._process.end)
            await self._open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def __aiter__(self) -> AsyncIterator[FrameBatch | Gap]:
        while self.finished is None:
            message = await self._read(self._limits.stall_seconds)
            match message:
                case Filled():
                    yield self._batch(message)
                case Gap():
                    yield message
                case Changed() if len(self.changes) < len(self._request.spans or ()):
                    self.changes.append(message)
                case Alive():
                    self._decoded = message.decoded
                case Finished():
                    self.finished = message
                case OutOfMemory():
                    raise DecoderFailedError("decoder_out_of_memory", message.detail)
                case Rejected():
                    raise VideoRejectedError(message.reason, message.detail)
                case Opened() | Changed():
                    raise await self._failure("it said what nobody had asked for")
                case _:
                    assert_never(message)

    def release(self, batch: FrameBatch) -> None:
        """Give the batch's slab back to the decoder; its pixels are gone from here on."""
        self._held.remove(batch.slab)
        self._process.stdin.write(b"%d\n" % batch.slab)

    async def _start(self) -> Forked:
        request, limits, slabs = self._request, self._limits, self._slabs
        order = Order(
            path=str(request.path.absolute()),
            slab_count=slabs.count,
            slab_bytes=slabs.slab_bytes,
            batch_size=request.batch_size,
            frame_side=request.frame_side,
            sample_fps=request.sample_fps,
            after_ms=request.after_ms,
            max_seconds=limits.max_seconds,
            cpu_seconds=int(limits.total_seconds * max(1, request.threads)),
            memory_bytes=limits.memory_bytes,
            threads=request.threads,
            tolerant=request.tolerant,
            moments=_as_numbers(request.moments),
            spans=request.spans,
        )
        return await self._server.fork(order, slabs, self._stderr)

    async def _open(self) -> None:
        size = self._request.path.stat().st_size
        allowed = self._limits.stall_seconds + size / _READ_BYTES_PER_SECOND
        message = await self._read(allowed)
        while isinstance(message, Alive):
            message = await self._read(allowed)
        match message:
            case Opened():
                self.opened = message
            case Rejected():
                raise VideoRejectedError(message.reason, message.detail)
            case OutOfMemory():
                raise DecoderFailedError("decoder_out_of_memory", message.detail)
            case _:
                raise await self._failure("it began without opening the file")

    async def _read(self, allowed: float) -> Message:
        start = time.monotonic()
        left = self._limits.total_seconds - self._waited
        try:
            async with asyncio.timeout(min(allowed, left)):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            limit = "said nothing for" if allowed < left else "took more than its"
            raise DecoderFailedError(
                "decoder_timeout", f"the decoder {limit} {min(allowed, left):.0f} s"
            ) from error
        except ValueError as error:
            raise await self._failure("it sent a line without end") from error
        self._waited += time.monotonic() - start
        if not line.endswith(b"\n"):
            raise await self._failure("it ended early")
        self._on_alive()
        try:
            return parse_line(line)
        except WireError as error:
            raise await self._failure(str(error)) from error

    def _batch(self, message: Filled) -> FrameBatch:
        count = len(message.pts_ms)
        if message.slab in self._held or count > self._request.batch_size:
            raise DecoderFailedError("decoder_crashed", "it filled a slab that is not its own")
        try:
            pixels = self._slabs.frames(message.slab, count, self.opened.height, self.opened.width)
        except ValueError as error:
            raise DecoderFailedError("decoder_crashed", str(error)) from error
        self._held.add(message.slab)
        return FrameBatch(pixels, np.array(message.pts_ms, np.float64), message.slab)

    async def _failure(self, what: str) -> DecoderFailedError:
        """Find out why the decoder is gone, or end it if it talks nonsense."""
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            status = await self._process.end()
        tail = read_tail(self._stderr)
        detail = f"{what}, status {_status_text(status)}: {tail or 'no output'}"
        if any(sign in tail.lower() for sign in _MEMORY_SIGNS):
            return DecoderFailedError("decoder_out_of_memory", detail)
        if status == -signal.SIGXCPU:
            return DecoderFailedError("decoder_timeout", detail)
        return DecoderFailedError("decoder_crashed", detail)


def _as_numbers(moments: Sequence[Moment] | None) -> list[tuple[float, float, float]] | None:
    if moments is None:
        return None
    return [(moment.at_ms, moment.from_ms, moment.to_ms) for moment in moments]


def _status_text(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else str(status)
