"""Brings frames from the slabs to the device; on CUDA beside what is computed there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_CUDA: Any = torch.cuda  # its streams and events are untyped
_BUFFERS = 2
"""One is filled while the other is copied."""


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
    """The way to one device: on a CPU none at all, on CUDA pinned buffers and a stream."""

    def __init__(self, device: torch.device) -> None:
        """The buffers are made for the first frames, and again for larger ones."""
        self._device = device
        self._next = 0
        if device.type == "cuda":
            self._stream = _CUDA.Stream(device)
            self._buffers = [torch.empty(0, dtype=torch.uint8)] * _BUFFERS
            self._copied = [_CUDA.Event() for _ in range(_BUFFERS)]

    def bring(self, pixels: npt.NDArray[np.uint8]) -> Brought:
        """Bring frames, uint8 [N, H, W, 3].

        On a CPU they stay where they are. On CUDA they are copied before this returns, to where the
        device fetches them by itself.
        """
        if self._device.type != "cuda":
            # torch cannot hold memory that it may not write.
            return Brought(torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()))
        at = self._next
        self._next = (at + 1) % _BUFFERS
        self._copied[at].synchronize()  # what was in the buffer has been fetched
        if self._buffers[at].numel() < pixels.size:
            self._buffers[at] = torch.empty(pixels.size, dtype=torch.uint8, pin_memory=True)
        buffer = self._buffers[at][: pixels.size].view(pixels.shape)
        np.copyto(buffer.numpy(), pixels)
        self._copied[at] = _CUDA.Event()
        with torch.cuda.stream(self._stream):
            brought = buffer.to(self._device, non_blocking=True)
            self._copied[at].record(self._stream)
        return Brought(brought, self._copied[at])
