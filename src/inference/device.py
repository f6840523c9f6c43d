"""The parent's side of the device process: start it when it is needed, ask, survive its death."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.child import read_tail
from inference.device_run import Run, start_run
from inference.errors import DeviceFaultError
from inference.features import FrameFeatures
from inference.frames import FrameBatch
from inference.sights import Sights
from inference.slabs import Slabs
from inference.wire import Arrays, DeviceOrder, WireError

_ALONE_BATCHES = 100
"""After a fault: so many batches show that it was not one video that caused it."""

SILENCE_SECONDS = 120.0
"""So long a device that is asked may say nothing."""
_CLOSED = "the device is closed"


@dataclass(frozen=True, slots=True)
class Inferred:
    """What the device made of a batch of one video's frames."""

    features: FrameFeatures
    sights: Sights | None
    """What the models of the bundle saw; None without a bundle."""
    seconds: float
    """Time of the device; of what it did for several videos at once, this one's share."""


class Device:
    """The device process: started on first use, started again on the next use after a fault."""

    def __init__(
        self,
        device: str = "auto",
        *,
        threads: int = 1,
        infer_seconds: float = SILENCE_SECONDS,
        bundle: Path | None = None,
        batch_size: int | None = None,
        batch_wait_ms: float = 15.0,
    ) -> None:
        """`device` is `auto`, `cpu` or `cuda`; `threads` is how many torch may use.

        One is fastest beside decoders that keep the cores busy: the pictures are small, and
        threads that wait for a core at each of their barriers made it 20 times slower.
        A device that is asked and says nothing for `infer_seconds` counts as faulty.
        `bundle` is the directory of a bundle of models; `batch_size` is how many frames they take
        at once (None: 1 on a CPU, 32 on CUDA), of whatever videos; a frame waits for others at
        most `batch_wait_ms` while the device has nothing else to do.
        """
        self._device = device
        self._threads = threads
        self._infer_seconds = infer_seconds
        self._bundle = bundle
        self._batch_size = batch_size
        self._batch_wait_ms = batch_wait_ms
        self._numbers = count()
        self._starting = asyncio.Lock()
        self._start: asyncio.Task[Run] | None = None
        self._is_closed = False
        self._run: Run | None = None
        self._reader: asyncio.Task[None] | None = None
        self.name = ""
        """What `auto` came to, once it has started."""
        self.model = ""
        """What the models are known by: the bundle's name and version, or `builtin`."""
        self.batch_size = 0
        """Frames that the models take at once; fewer than were asked for if memory is short."""
        self.batches = 0
        """How many batches the models were given."""
        self.batch_frames = 0
        """Frames in all of them."""
        self.batch_room = 0
        """Frames that they would have had room for."""
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
            ModelRefusedError: it does not come up, because the bundle cannot be used.
            DeviceFaultError: it does not come up, for example because there is no such device.
        """
        await self._living()

    async def close(self) -> None:
        """Kill the process, for good; whoever still waits gets a DeviceFaultError.

        One that is still starting is not waited for.
        """
        self._is_closed = True
        if self._start is not None:
            self._start.cancel()
        async with self._starting:
            await self._bury(DeviceFaultError(_CLOSED))

    @asynccontextmanager
    async def open(self, slabs: Slabs, carry: Arrays | None = None) -> AsyncIterator["DeviceVideo"]:
        """Show one video's slabs to the device and keep its state there.

        `carry` is None for a video's beginning, else what `DeviceVideo.carry` gave.

        Raises:
            ModelRefusedError: the process does not come up, because of the bundle.
            DeviceFaultError: it does not come up, or fails at the carry.
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
        try:
            await self.ask(run, {"kind": "open", "video": number, **request}, carry or {})
            yield DeviceVideo(self, run, number)
        finally:
            run.send({"kind": "close", "video": number}, {})

    async def infer(self, run: Run, header: Mapping[str, object], frames: Arrays) -> Inferred:
        """Ask one run about a batch. See `DeviceVideo.infer`."""
        reply, arrays = await self.ask(run, {"kind": "infer", **header}, frames)
        seconds = float(reply["seconds"])
        self.busy_seconds += seconds
        self.memory_bytes = int(reply["memory_bytes"])
        self.batch_size = int(reply["batch_size"])
        seen = {name: arrays[name] for name in reply["sights"]}
        features = {name: array for name, array in arrays.items() if name not in seen}
        sights = Sights.from_arrays(seen) if seen else None
        return Inferred(FrameFeatures.from_arrays(features), sights, seconds)

    async def ask(
        self, run: Run, header: Mapping[str, object], arrays: Arrays
    ) -> tuple[dict[str, Any], Arrays]:
        """Send one run a request and await its answer.

        Raises:
            DeviceFaultError: the process died, failed, or said nothing for too long.
        """
        number = next(self._numbers)
        future = run.expect(number)
        run.send({"id": number, **header}, arrays)
        clock = asyncio.get_running_loop().time
        try:
            while not future.done():
                left = run.heard + self._infer_seconds - clock()
                if left <= 0:
                    text = f"the device said nothing for {self._infer_seconds:g} s"
                    run.end(DeviceFaultError(text), at_work=True)
                    run.process.kill()
                else:
                    await asyncio.wait([future], timeout=left)
            return future.result()
        finally:
            run.waiting.pop(number, None)

    async def _living(self) -> Run:
        async with self._starting:
            if self._is_closed:
                raise DeviceFaultError(_CLOSED)
            if self._run is None or self._run.fault is not None:
                await self._bury(DeviceFaultError("the device is replaced"))
                self._run = await self._started()
                self._reader = asyncio.create_task(self._read(self._run), name="device.read")
            return self._run

    async def _started(self) -> Run:
        """Start a process, in a task that `close` may cancel."""
        start = self._start = asyncio.create_task(self._begin(), name="device.start")
        try:
            return await start
        except asyncio.CancelledError:
            if not (start.cancelled() or start.exception()):  # it came too late for that
                await start.result().close()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise DeviceFaultError(_CLOSED) from None
        finally:
            self._start = None

    async def _bury(self, fault: DeviceFaultError) -> None:
        run, reader = self._run, self._reader
        self._run = self._reader = None
        if run is None or reader is None:
            return
        run.end(fault)
        reader.cancel()
        await asyncio.wait([reader])
        await run.close()

    async def _begin(self) -> Run:
        self.starts += 1
        order = DeviceOrder(
            self._device,
            os.getpid(),
            self._threads,
            None if self._bundle is None else str(self._bundle),
            self._batch_size,
            self._batch_wait_ms,
            0 if self.starts == 1 else _ALONE_BATCHES,
        )
        run, header = await start_run(order)
        self.name, self.memory_bytes = str(header["device"]), int(header["memory_bytes"])
        self.model, self.batch_size = str(header["model"]), int(header["batch_size"])
        return run

    async def _read(self, run: Run) -> None:
        """Hand answers to those who wait, until the process dies."""
        try:
            while True:
                header, arrays = await run.receive()
                run.hear(header)
                if header["kind"] == "work":
                    self._count(int(header["frames"]))
                    continue
                future = run.waiting.pop(header["id"], None)
                if future is not None and not future.done():  # its video may have been cancelled
                    future.set_result((header, arrays))
        except (asyncio.IncompleteReadError, WireError) as error:
            detail = read_tail(run.stderr) or repr(error)
            run.end(DeviceFaultError(f"the device process died: {detail}"), at_work=True)

    def _count(self, frames: int) -> None:
        """Count a batch of the models, if it is one."""
        if frames:
            self.batches += 1
            self.batch_frames += frames
            self.batch_room += self.batch_size


@dataclass(frozen=True, slots=True)
class DeviceVideo:
    """One video on the device, bound to one life of the process: its state dies with it."""

    device: Device
    run: Run
    number: int

    async def infer(
        self, batch: FrameBatch, looked_at: npt.NDArray[np.bool_] | None = None
    ) -> Inferred:
        """Measure the next batch of this video, and let the models see it; one at a time, in order.

        `looked_at`, bool [N], says in which frames persons are looked for; None: in all.

        Raises:
            DeviceFaultError: the process died, failed or took too long; the video starts anew.
        """
        _, height, width, _ = batch.pixels.shape
        header = {"video": self.number, "slab": batch.slab, "height": height, "width": width}
        looked = np.ones(len(batch.pts_ms), np.bool_) if looked_at is None else looked_at
        frames = {"pts_ms": batch.pts_ms, "looked_at": looked}
        return await self.device.infer(self.run, header, frames)

    async def carry(self) -> Arrays:
        """What the next frame depends on, as of the last batch that was answered.

        Raises:
            DeviceFaultError: see `infer`.
        """
        _, arrays = await self.device.ask(self.run, {"kind": "carry", "video": self.number}, {})
        return arrays
