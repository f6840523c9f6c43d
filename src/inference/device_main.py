"""The device's process: owns torch, measures the frames of all videos, one batch at a time."""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from inference.confinement import bind_to_parent, take_stdout
from inference.engine import Carry, Engine
from inference.slabs import Slabs
from inference.wire import Arrays, DeviceOrder, pack, read_arrays, unpack_header


@dataclass(frozen=True, slots=True)
class _Video:
    """The slabs that a video's frames come in, and its state on the device."""

    slabs: Slabs
    carry: Carry


@dataclass(slots=True)
class _Desk:
    """Answers requests in the order in which they come.

    All cross-frame state is in a video's carry, so frames of several videos may later share a
    batch here without a change to what is asked and answered.
    """

    engine: Engine
    descriptors: socket.socket
    stdout: BinaryIO
    videos: dict[int, _Video] = field(default_factory=dict)

    def answer(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        match header["kind"]:
            case "open":
                self._open(header, arrays)
            case "infer":
                self._infer(header, arrays["pts_ms"])
            case "carry":
                carry = self.videos[header["video"]].carry.to_arrays()
                self.say({"kind": "carry", "id": header["id"]}, carry)
            case "close":
                self.videos.pop(header["video"]).slabs.close()
            case kind:
                raise ValueError(f"unknown request {kind!r}")

    def _open(self, header: Mapping[str, Any], carry: Arrays) -> None:
        _, (fd,), _, _ = socket.recv_fds(self.descriptors, 16, 1)
        slabs = Slabs(fd, header["slab_count"], header["slab_bytes"])
        self.videos[header["video"]] = _Video(slabs, self.engine.open(carry))

    def _infer(self, header: Mapping[str, Any], pts_ms: npt.NDArray[np.float64]) -> None:
        start = time.monotonic()
        video = self.videos[header["video"]]
        pixels = video.slabs.frames(header["slab"], len(pts_ms), header["height"], header["width"])
        features = self.engine.features(video.carry, pixels, pts_ms)
        reply = {
            "kind": "features",
            "id": header["id"],
            "seconds": time.monotonic() - start,
            "memory_bytes": _memory_bytes(self.engine.device),
        }
        self.say(reply, features.to_arrays())

    def say(self, header: Mapping[str, object], arrays: Arrays) -> None:
        self.stdout.write(b"".join(pack(header, arrays)))


def main(arguments: Sequence[str]) -> None:
    """Serve until stdin closes.

    An error of any kind ends the process, and with it the carries: what a failed device has
    computed last is not to be trusted.
    """
    order = DeviceOrder(**json.loads(arguments[0]))
    bind_to_parent(order.parent)
    stdout = take_stdout()
    torch.set_num_threads(order.threads)
    engine = Engine(order.device)
    with socket.socket(fileno=order.descriptors_fd) as descriptors:
        desk = _Desk(engine, descriptors, stdout)
        ready = {
            "kind": "ready",
            "device": str(engine.device),
            "memory_bytes": _memory_bytes(engine.device),
        }
        desk.say(ready, {})
        while prefix := sys.stdin.buffer.read(4):
            header, size = unpack_header(sys.stdin.buffer.read(int.from_bytes(prefix, "big")))
            desk.answer(header, read_arrays(header, sys.stdin.buffer.read(size)))


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 # a hot path
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
