"""One life of the device process, as its parent sees it: started, spoken to, ended."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import IO, Any

from inference.child import end_child, open_log, read_tail, start_child
from inference.errors import DeviceFaultError, ModelRefusedError
from inference.wire import Arrays, DeviceOrder, WireError, pack, read_arrays, unpack_header

_START_SECONDS = 180
"""Importing torch from a cold disk and waking a GPU take their time."""
LOAD_SECONDS = 420
"""Reading all of a bundle twice, to verify and to load it, takes more of it. With the silence that
a fault may begin with, it is less than what a video may go without progress.
"""
_PASSED_ON = frozenset({"PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR"})
_TRACEBACK = "Traceback (most recent call last):\n"
_REFUSED = ("inference.manifest.BundleError: ", "inference.manifest.UnsealedError: ")
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_", "OMP_", "MKL_")


@dataclass(slots=True)
class Run:
    """One life of the device process."""

    process: Process
    descriptors: socket.socket
    stderr: IO[bytes]
    waiting: dict[int, asyncio.Future[tuple[dict[str, Any], Arrays]]] = field(default_factory=dict)
    at_work: frozenset[int] = frozenset()
    """The requests that the process said it is at work on; some may be answered by now."""
    heard: float = 0.0
    """When it last said anything, or had nothing to say, as the loop's time."""
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
        loop = asyncio.get_running_loop()
        if not self.waiting:
            self.heard = loop.time()
        future = self.waiting[number] = loop.create_future()
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

        `at_work`: the process failed by itself, at what it was at work on. Where that was of
        several videos, nobody knows whose fault it is: the next process takes one at a time.
        """
        self.fault = self.fault or fault
        for number, future in self.waiting.items():
            if not future.done():
                is_own = at_work and self.at_work == {number}
                future.set_exception(DeviceFaultError(str(self.fault), is_own=is_own))
        self.waiting.clear()

    def hear(self, header: Mapping[str, Any]) -> None:
        """Note a sign of life."""
        self.heard = asyncio.get_running_loop().time()
        if header["kind"] == "work":
            self.at_work = frozenset(header["ids"])

    async def close(self) -> None:
        """Kill the process and reap it."""
        await end_child(self.process)
        self.descriptors.close()
        self.stderr.close()


async def start_run(order: DeviceOrder) -> tuple[Run, dict[str, Any]]:
    """Start a process, and return it with the first thing that it says: what it is.

    Raises:
        ModelRefusedError: it does not come up, because of the bundle.
        DeviceFaultError: it does not come up.
    """
    async with AsyncExitStack() as stack:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(ours.close)
        ours.setblocking(False)
        stderr = stack.enter_context(open_log())
        with theirs:
            process = await start_child(
                "inference.device_main",
                [order.to_json(), str(theirs.fileno())],
                environment=_environment(order.threads),
                directory=None,
                descriptors=[theirs.fileno()],
                stderr=stderr,
            )
        stack.push_async_callback(end_child, process)
        run = Run(process, ours, stderr)
        seconds = _START_SECONDS if order.bundle is None else LOAD_SECONDS
        try:
            async with asyncio.timeout(seconds):
                header, _ = await run.receive()
        except TimeoutError as error:
            raise _why_no_start(stderr, f"it said nothing for {seconds} s") from error
        except (asyncio.IncompleteReadError, WireError) as error:
            raise _why_no_start(stderr, _ending(await end_child(process))) from error
        stack.pop_all()
    return run, header


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "it was killed (SIGKILL), as the kernel does where memory is short"
    return f"it ended by signal {-status}" if status < 0 else f"it ended with status {status}"


def _why_no_start(stderr: IO[bytes], seen: str) -> DeviceFaultError:
    """The message of the exception that ended the child; without one, what was seen of it."""
    stderr.seek(0)
    _, found, trace = stderr.read().decode(errors="replace").rpartition(_TRACEBACK)
    if not found:
        said = f": {tail}" if (tail := read_tail(stderr)) else ""
        return DeviceFaultError(f"it does not start: {seen}{said}")
    message = " ".join(dropwhile(lambda line: line.startswith(" "), trace.splitlines()))
    for kind in _REFUSED:
        if message.startswith(kind):
            return ModelRefusedError(message.removeprefix(kind))
    return DeviceFaultError(f"it does not start: {message.removeprefix('RuntimeError: ')}")


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
