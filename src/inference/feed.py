"""Brings frames from the slabs to the device; on CUDA on a stream beside what is computed there."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_CUDA: Any = torch.cuda  # its streams, events and runtime are untyped


@dataclass(frozen=True, slots=True)
class Brought:
    """Frames that are on the device, or on their way to it."""

    pixels: Tensor
    copied: Any = None
    """On CUDA: the event after which they are there."""

    def arrive(self) -> Tensor:
        """Give the frames, uint8 [N, H, W, 3]; what is computed next waits until they are there."""
        if self.copied is not None:
            compute = torch.cuda.current_stream(self.pixels.device)
            compute.wait_event(self.copied)
            # Else the memory could be given away while the other stream still reads it.
            self.pixels.record_stream(compute)
        return self.pixels


class Feed:
    """The way to one device: on a CPU none at all.

    On CUDA the slabs themselves are pinned: the device fetches the frames from where the decoder
    has put them, and nothing is copied on the way.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _CUDA.Stream(device) if device.type == "cuda" else None

    def pin(self, memory: npt.NDArray[np.uint8]) -> None:
        """Let the device fetch from this memory by itself, until `unpin`.

        Where that is refused, frames come all the same, by way of the driver's own buffers.
        """
        if self._stream is None:
            return
        cudart = _CUDA.cudart()
        told = cudart.cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)
        if told != cudart.cudaError.success:
            sys.stderr.write(f"memory of {memory.nbytes} bytes cannot be pinned: {told}\n")
            with suppress(RuntimeError):  # CUDA tells the next one who asks of this error, too
                torch.zeros(1, device=self._device)

    def unpin(self, memory: npt.NDArray[np.uint8]) -> None:
        """Wait for what is still fetched from it, and let go of it."""
        if self._stream is None:
            return
        self._stream.synchronize()
        told = _CUDA.cudart().cudaHostUnregister(memory.ctypes.data)
        if told != _CUDA.cudart().cudaError.success:
            with suppress(RuntimeError):  # it was never pinned
                torch.zeros(1, device=self._device)

    def bring(self, pixels: npt.NDArray[np.uint8]) -> Brought:
        """Bring frames, uint8 [N, H, W, 3], which stay as they are until they have arrived.

        On a CPU they stay where they are.
        """
        # torch cannot hold memory that it may not write.
        frames = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
        if self._stream is None:
            return Brought(frames)
        copied = _CUDA.Event()
        with torch.cuda.stream(self._stream):
            brought = frames.to(self._device, non_blocking=True)
            copied.record(self._stream)
        return Brought(brought, copied)
