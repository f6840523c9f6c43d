"""The device's process: owns torch and the weights, and looks at the frames of all videos."""

import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from inference.bundle import read_bundle
from inference.confinement import bind_to_parent, take_stdout
from inference.engine import Carry, Engine
from inference.features import FrameFeatures
from inference.feed import Brought
from inference.frames import fit
from inference.models.line import Line, Look
from inference.models.loaded import Models
from inference.slabs import Slabs
from inference.wire import Arrays, DeviceOrder, pack, read_arrays, unpack_header

_SIGN_SECONDS = 0.1
"""So often a batch that takes long shows that it is worked on."""


@dataclass(frozen=True, slots=True)
class _Video:
    """The slabs that a video's frames come in, and its state on the device."""

    slabs: Slabs
    carry: Carry


@dataclass(slots=True, eq=False)
class _Request:
    """Frames of one video that were asked about."""

    number: int
    video: int
    frames: Brought
    pts_ms: npt.NDArray[np.float64]
    searched: npt.NDArray[np.bool_]
    """In which of them persons are looked for."""
    features: FrameFeatures | None = None
    looks: list["Look[_Request]"] = field(default_factory=list)
    """What the models see in each frame."""
    seconds: float = 0.0
    left: int = 0
    """Frames that the models still have to see."""


@dataclass(slots=True)
class _Desk:
    """Takes requests whenever there are any, and between them does the next piece of work.

    What is built in is measured for each request alone, because a frame is compared with the one
    before. The models look at single frames, in batches of all videos.
    """

    engine: Engine
    line: Line[_Request] | None
    """The way through the models, if there are any."""
    descriptors: socket.socket
    stdin: FileIO
    stdout: BinaryIO
    videos: dict[int, _Video] = field(default_factory=dict)
    arrived: deque[_Request] = field(default_factory=deque)
    """What is still to be measured."""
    at_work: list[int] = field(default_factory=list)
    said_at: float = 0.0

    @property
    def batch_size(self) -> int:
        return 0 if self.line is None else self.line.models.batch_size.number

    def serve(self) -> None:
        """Work until stdin closes."""
        while True:
            patience = self._patience()
            if patience != 0:
                self.begin([])  # nothing that ends this process now is the doing of those who wait
            if select.select([self.stdin], [], [], patience)[0]:
                message = _receive(self.stdin)
                if message is None:
                    return
                self._take(*message)
            elif self.arrived:
                self._measure(self.arrived.popleft())
            elif self.line is not None:
                self._look(self.line)

    def _patience(self) -> float | None:
        """How long to wait for requests before the next piece of work, in seconds."""
        if self.arrived:
            return 0.0
        due = None if self.line is None else self.line.due(len(self.videos))
        return None if due is None else max(0.0, due - time.monotonic())

    def _take(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        match header["kind"]:
            case "open":
                self._open(header, arrays)
            case "infer":
                self._admit(header, arrays["pts_ms"], arrays["looked_at"])
            case "carry":
                carry = self.engine.keep(self.videos[header["video"]].carry)
                self.say({"kind": "carry", "id": header["id"]}, carry)
            case "close":
                self._close(header["video"])
            case kind:
                raise ValueError(f"unknown request {kind!r}")

    def _open(self, header: Mapping[str, Any], carry: Arrays) -> None:
        self.begin([header["id"]])
        _, (fd,), _, _ = socket.recv_fds(self.descriptors, 16, 1)
        slabs = Slabs(fd, header["slab_count"], header["slab_bytes"])
        self.engine.feed.pin(slabs.memory())
        self.videos[header["video"]] = _Video(slabs, self.engine.open(carry))
        self.say({"kind": "opened", "id": header["id"]}, {})

    def _close(self, number: int) -> None:
        slabs = self.videos.pop(number).slabs
        self.engine.feed.unpin(slabs.memory())
        slabs.close()
        if self.line is not None:
            self.line.drop(number)
        self.arrived = deque(each for each in self.arrived if each.video != number)

    def _admit(
        self,
        header: Mapping[str, Any],
        pts_ms: npt.NDArray[np.float64],
        searched: npt.NDArray[np.bool_],
    ) -> None:
        self.begin([header["id"]])
        slabs = self.videos[header["video"]].slabs
        pixels = slabs.frames(header["slab"], len(pts_ms), header["height"], header["width"])
        frames = self.engine.feed.bring(pixels)
        self.arrived.append(_Request(header["id"], header["video"], frames, pts_ms, searched))

    def _measure(self, request: _Request) -> None:
        self.begin([request.number])
        start, line = time.monotonic(), self.line
        carry = self.videos[request.video].carry
        request.features = self.engine.measure(carry, request.frames, request.pts_ms)
        if line is None:
            request.seconds = time.monotonic() - start
            self._answer(request, {})
            return
        request.seconds = line.seconds_since(start)
        request.looks = [
            Look(request, request.video, frame, bool(searched), bool(described))
            for frame, searched, described in zip(
                request.frames.arrive().permute(0, 3, 1, 2),
                request.searched,
                request.features.described,
                strict=True,
            )
        ]
        request.left = line.add(request.video, request.looks)
        if not request.left:
            self._conclude(request, line.models)

    def _look(self, line: Line[_Request]) -> None:
        for look in line.step(len(self.videos)):
            look.owner.left -= 1
            if not look.owner.left:
                self._conclude(look.owner, line.models)

    def _conclude(self, request: _Request, models: Models) -> None:
        request.seconds += sum(look.seconds for look in request.looks)
        sights = models.sights([look.sight() for look in request.looks])
        self._answer(request, sights.to_arrays())

    def _answer(self, request: _Request, sights: Arrays) -> None:
        if request.features is None:
            raise AssertionError("measured first")
        reply = {
            "kind": "features",
            "id": request.number,
            "seconds": request.seconds,
            "memory_bytes": _memory_bytes(self.engine.device),
            "batch_size": self.batch_size,
            "sights": list(sights),
        }
        self.say(reply, {**request.features.to_arrays(), **sights})

    def begin(self, requests: Iterable[int], *, frames: int = 0) -> None:
        """Say what is worked on next, because it may be the end of this process."""
        begun = set() if self.line is None else self.line.owners()
        at_work = sorted({*requests, *(request.number for request in begun)})
        if at_work != self.at_work or frames:
            self.at_work = at_work
            self.say({"kind": "work", "ids": at_work, "frames": frames}, {})

    def begin_batch(self, requests: Iterable[_Request], frames: int) -> None:
        """Say it of a batch; `frames` are counted."""
        self.begin([request.number for request in requests], frames=frames)

    def go_on(self) -> None:
        """Say now and then that the same work goes on, because only silence is a fault."""
        if time.monotonic() - self.said_at >= _SIGN_SECONDS:
            self.say({"kind": "work", "ids": self.at_work, "frames": 0}, {})

    def say(self, header: Mapping[str, object], arrays: Arrays) -> None:
        self.stdout.write(b"".join(pack(header, arrays)))
        self.said_at = time.monotonic()


def main(arguments: Sequence[str]) -> None:
    """Serve until stdin closes; the arguments are an order, and where descriptors come from.

    An error of any kind ends the process, and with it the carries: what a failed device has
    computed last is not to be trusted.
    """
    order = DeviceOrder(**json.loads(arguments[0]))
    bind_to_parent(order.parent)
    stdout = take_stdout()
    torch.set_num_threads(order.threads)
    torch.backends.cudnn.allow_tf32 = False  # else another generation of GPUs has other scores
    engine = Engine(order.device)
    engine.warm()
    title, models = _load(order, engine.device)
    line = None
    if models is not None:
        depth = 1 if engine.device.type == "cpu" else 2
        line = Line[_Request](models, order.batch_wait_ms / 1000, depth, order.alone_batches)
    with socket.socket(fileno=int(arguments[1])) as descriptors, FileIO(0, "rb") as stdin:
        desk = _Desk(engine, line, descriptors, stdin, stdout)
        if line is not None:
            line.on_begin = desk.begin_batch
            line.models.batch_size.on_batch = desk.go_on
        ready = {
            "kind": "ready",
            "device": str(engine.device),
            "memory_bytes": _memory_bytes(engine.device),
            "model": title,
            "batch_size": desk.batch_size,
        }
        desk.say(ready, {})
        desk.serve()


def _load(order: DeviceOrder, device: torch.device) -> tuple[str, Models | None]:
    """The bundle's title and models, warm.

    Raises:
        BundleError: it cannot be used on this device.
    """
    if order.bundle is None:
        return "builtin", None
    bundle = read_bundle(Path(order.bundle))
    models = Models.load(bundle, device, batch_size=order.batch_size)
    width, height = fit(1920, 1080, bundle.manifest.frame_side)
    models.warm(height, width)
    return bundle.title, models


def _receive(stdin: FileIO) -> tuple[dict[str, Any], Arrays] | None:
    """Read one message; None when there are no more."""
    prefix = _read(stdin, 4)
    text = _read(stdin, int.from_bytes(prefix, "big"))
    if not text:
        return None
    header, size = unpack_header(text)
    body = _read(stdin, size)
    return (header, read_arrays(header, body)) if len(body) == size else None


def _read(stdin: FileIO, size: int) -> bytes:
    """Read so many bytes; fewer only at the end."""
    parts = []
    while size and (part := stdin.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 # a hot path
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
