"""The shared memory in which decoded frames travel: K equal slabs in one anonymous file.

A memfd belongs to its holders and to no directory: whatever is killed, nothing stays behind, and
the size of a container's /dev/shm does not matter. It is sealed against resizing and against
further seals, so a decoder that a hostile file took over cannot make its readers fault.
"""

import fcntl
import mmap
import os
from typing import Self

import numpy as np
import numpy.typing as npt


class Slabs:
    """`count` slabs of `slab_bytes` each behind the descriptor `fd`, which this object owns."""

    def __init__(self, fd: int, count: int, slab_bytes: int) -> None:
        self.fd = fd
        self.count = count
        self.slab_bytes = slab_bytes
        self._memory = mmap.mmap(fd, count * slab_bytes)

    @classmethod
    def create(cls, count: int, slab_bytes: int) -> Self:
        """Make the memory; pages are taken from the machine only when a frame is written."""
        fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, count * slab_bytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return cls(fd, count, slab_bytes)

    def frames(self, slab: int, count: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """View `count` frames of slab number `slab` as uint8 [count, height, width, 3].

        Raises:
            ValueError: the slab does not exist or cannot hold so much.
        """
        size = count * height * width * 3
        if not (0 <= slab < self.count and 0 <= size <= self.slab_bytes and min(height, width) > 0):
            raise ValueError(f"slab {slab} of {self.count} cannot hold {count}x{height}x{width}")
        flat = np.frombuffer(
            self._memory, dtype=np.uint8, count=size, offset=slab * self.slab_bytes
        )
        return flat.reshape(count, height, width, 3)

    def memory(self) -> npt.NDArray[np.uint8]:
        """View all slabs as uint8 [count * slab_bytes]."""
        return np.frombuffer(self._memory, dtype=np.uint8)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last view of it."""
        os.close(self.fd)
        del self._memory  # it holds a duplicate of the descriptor
