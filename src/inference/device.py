"""The parent's side of the device process: start it when it is needed, ask, survive its death."""

import asyncio
import os
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, dropwhile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from inference.child import end_child, open_log, read_tail, start_child
from inference.errors import DeviceFaultError
from inference.features import FrameFeatures
from inference.frames import FrameBatch
from inference.slabs import Slabs
from inference.wire import Arrays, DeviceOrder, WireError, pack, read_arrays, unpack_header

_START_SECONDS = 180
"""Importing torch from a cold disk and waking a GPU take their time."""
_PASSED_ON = frozenset({"PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR"})
_TRACEBACK = "Traceback (most recent call last):\n"
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_", "OMP_", "MKL_")


@dataclass(slots=True)
class _Run:
    """One life of the device process."""

    process: Process
    descriptors: socket.socket
    stderr: IO[bytes]
    waiting: dict[int, asyncio.Future[tuple[dict[str, Any], Arrays]]] = field(default_factory=dict)
    fault: DeviceFaultError | None = None

    def send(self, header: Mapping[str, object], arrays: Arrays) -> None:
        """Queue a request; a death is noticed by whoever waits for the answer."""
        if self.fault is None and self.process.stdin is not None:
            self.process.stdin.writelines(pack(header, arrays))

    def expect(self, number: int) -> "asyncio.Future[tuple[dict[str, Any], Arrays]]":
        """Return the future answer to a request.

        Raises:
            DeviceFaultError: this run is over.
        """
        if self.fault is not None:
            raise DeviceFaultError(str(self.fault))
        future = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        return future

    async def receive(self) -> tuple[dict[str, Any], Arrays]:
        """Read one message.

        Raises:
            asyncio.IncompleteReadError: the process is gone.
            WireError: it talks nonsense.
        """
        stdout = self.process.stdout
        if stdout is None:
            raise AssertionError("started with a pipe")
        prefix = await stdout.readexactly(4)
        header, size = unpack_header(await stdout.readexactly(int.from_bytes(prefix, "big")))
        return header, read_arrays(header, await stdout.readexactly(size))

    def end(self, fault: DeviceFaultError, *, at_work: bool = False) -> None:
        """Fail everybody who waits; only the first reason counts.

        `at_work`: the process failed by itself. It answers in order, so that it was at work on
        what was asked first; the others only waited.
        """
        self.fault = self.fault or fault
        for place, future in enumerate(self.waiting.values()):
            if not future.done():
                is_own = at_work and place == 0
                future.set_exception(DeviceFaultError(str(self.fault), is_own=is_own))
        self.waiting.clear()


class Device:
    """The device process: started on first use, started again on the next use after a fault."""

    def __init__(
        self, device: str = "auto", *, threads: int = 1, infer_seconds: float = 120.0
    ) -> None:
        """`device` is `auto`, `cpu` or `cuda`; `threads` is how many torch may use.

        One is fastest beside decoders that keep the cores busy: the pictures are small, and
        threads that wait for a core at each of their barriers made it 20 times slower.
        A batch that takes longer than `infer_seconds` counts as a fault.
        """
        self._device = device
        self._threads = threads
        self._infer_seconds = infer_seconds
        self._numbers = count()
        self._starting = asyncio.Lock()
        self._run: _Run | None = None
        self._reader: asyncio.Task[None] | None = None
        self.name = ""
        """What `auto` came to, once it has started."""
        self.starts = 0
        self.busy_seconds = 0.0
        self.memory_bytes = 0

    @property
    def restarts(self) -> int:
        """How often a faulty process was replaced."""
        return max(0, self.starts - 1)

    @property
    def pid(self) -> int | None:
        """Process id of the device process, while one lives."""
        return self._run.process.pid if self._run and self._run.fault is None else None

    async def start(self) -> None:
        """Start the process if none lives; `open` does it too.

        Raises:
            DeviceFaultError: it does not come up, for example because there is no such device.
        """
        await self._living()

    async def close(self) -> None:
        """Kill the process; whoever still waits gets a DeviceFaultError."""
        async with self._starting:
            await self._bury(DeviceFaultError("the device is closed"))

    @asynccontextmanager
    async def open(self, slabs: Slabs, carry: Arrays | None = None) -> AsyncIterator["DeviceVideo"]:
        """Show one video's slabs to the device and keep its state there.

        `carry` is None for a video's beginning, else what `DeviceVideo.carry` gave.

        Raises:
            DeviceFaultError: the process does not come up.
        """
        run = await self._living()
        number = next(self._numbers)
        # The descriptor goes first and nothing is awaited in between: the process takes one for
        # each `open` it reads, in order.
        try:
            socket.send_fds(run.descriptors, [b"slabs"], [slabs.fd])
        except OSError as error:
            raise DeviceFaultError(f"the device process is gone: {error}") from error
        request = {"slab_count": slabs.count, "slab_bytes": slabs.slab_bytes}
        run.send({"kind": "open", "video": number, **request}, carry or {})
        try:
            yield DeviceVideo(self, run, number)
        finally:
            run.send({"kind": "close", "video": number}, {})

    async def infer(
        self, run: _Run, header: Mapping[str, object], pts_ms: npt.NDArray[np.float64]
    ) -> FrameFeatures:
        """Ask one run for the features of a batch. See `DeviceVideo.infer`."""
        reply, arrays = await self.ask(run, {"kind": "infer", **header}, {"pts_ms": pts_ms})
        self.busy_seconds += float(reply["seconds"])
        self.memory_bytes = int(reply["memory_bytes"])
        return FrameFeatures.from_arrays(dict(arrays))

    async def ask(
        self, run: _Run, header: Mapping[str, object], arrays: Arrays
    ) -> tuple[dict[str, Any], Arrays]:
        """Send one run a request and await its answer.

        Raises:
            DeviceFaultError: the process died, failed or took too long.
        """
        number = next(self._numbers)
        future = run.expect(number)
        run.send({"id": number, **header}, arrays)
        try:
            async with asyncio.timeout(self._infer_seconds):
                return await future
        except TimeoutError as error:
            fault = DeviceFaultError(
                f"a batch took more than {self._infer_seconds:g} s",
                is_own=next(iter(run.waiting), None) == number,
            )
            run.end(fault)
            run.process.kill()
            raise fault from error
        finally:
            run.waiting.pop(number, None)

    async def _living(self) -> _Run:
        async with self._starting:
            if self._run is None or self._run.fault is not None:
                await self._bury(DeviceFaultError("the device is replaced"))
                self._run = await self._start()
                self._reader = asyncio.create_task(self._read(self._run), name="device.read")
            return self._run

    async def _bury(self, fault: DeviceFaultError) -> None:
        run, reader = self._run, self._reader
        self._run = self._reader = None
        if run is None or reader is None:
            return
        run.end(fault)
        reader.cancel()
        await asyncio.wait([reader])
        await end_child(run.process)
        run.descriptors.close()
        run.stderr.close()

    async def _start(self) -> _Run:
        self.starts += 1
        async with AsyncExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            ours.setblocking(False)
            stderr = stack.enter_context(open_log())
            with theirs:
                order = DeviceOrder(self._device, os.getpid(), theirs.fileno(), self._threads)
                process = await start_child(
                    "inference.device_main",
                    [order.to_json()],
                    environment=_environment(self._threads),
                    directory=None,
                    descriptors=[theirs.fileno()],
                    stderr=stderr,
                )
            stack.push_async_callback(end_child, process)
            run = _Run(process, ours, stderr)
            try:
                async with asyncio.timeout(_START_SECONDS):
                    header, _ = await run.receive()
            except (TimeoutError, asyncio.IncompleteReadError, WireError) as error:
                raise DeviceFaultError(_why_no_start(stderr)) from error
            self.name, self.memory_bytes = str(header["device"]), int(header["memory_bytes"])
            stack.pop_all()
        return run

    async def _read(self, run: _Run) -> None:
        """Hand answers to those who wait, until the process dies."""
        try:
            while True:
                header, arrays = await run.receive()
                future = run.waiting.pop(header["id"], None)
                if future is not None and not future.done():  # its video may have been cancelled
                    future.set_result((header, arrays))
        except (asyncio.IncompleteReadError, WireError) as error:
            detail = read_tail(run.stderr) or repr(error)
            run.end(DeviceFaultError(f"the device process died: {detail}"), at_work=True)


@dataclass(frozen=True, slots=True)
class DeviceVideo:
    """One video on the device, bound to one life of the process: its state dies with it."""

    device: Device
    run: _Run
    number: int

    async def infer(self, batch: FrameBatch) -> FrameFeatures:
        """Measure the next batch of this video; one at a time, in order.

        Raises:
            DeviceFaultError: the process died, failed or took too long; the video starts anew.
        """
        _, height, width, _ = batch.pixels.shape
        header = {"video": self.number, "slab": batch.slab, "height": height, "width": width}
        return await self.device.infer(self.run, header, batch.pts_ms)

    async def carry(self) -> Arrays:
        """What the next frame depends on, as of the last batch that was answered.

        Raises:
            DeviceFaultError: see `infer`.
        """
        _, arrays = await self.device.ask(self.run, {"kind": "carry", "video": self.number}, {})
        return arrays


def _why_no_start(stderr: IO[bytes]) -> str:
    """The message of the exception that ended the child; without one, the end of what it wrote."""
    stderr.seek(0)
    _, found, trace = stderr.read().decode(errors="replace").rpartition(_TRACEBACK)
    if not found:
        return f"it does not start: {read_tail(stderr)}"
    message = " ".join(dropwhile(lambda line: line.startswith(" "), trace.splitlines()))
    return f"it does not start: {message.removeprefix('RuntimeError: ')}"


def _environment(threads: int) -> dict[str, str]:
    """What CUDA and torch may want to know; no credential, no address, no setting of ours."""
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    # Waiting threads give up their core, on which a decoder wants to run.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    return {**waiting, **passed_on, "OMP_NUM_THREADS": str(threads)}
