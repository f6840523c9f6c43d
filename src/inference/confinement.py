"""What a child process does to itself: it dies with its parent and keeps to its limits.

Apart from `child`, whose asyncio would add a tenth to the start of every decoder.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import BinaryIO

_PR_SET_PDEATHSIG = 1
_NICENESS = 5
"""Below the device's process: frames that are decoded are worth more when they are inferred."""
_OPEN_FILES = 64
_FILE_BYTES = 16 << 20
"""What the process may write to a file: its stderr, and nothing else is meant to be written."""


def bind_to_parent(parent: int) -> None:
    """In a child: die with the parent, also when it is killed. Exits at once if it is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def take_stdout() -> BinaryIO:
    """In a child: keep stdout for messages; what libraries print goes to stderr."""
    kept = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return kept


def confine(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Limit this process for good: address space, CPU time, files; no core dump."""
    os.nice(_NICENESS)
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        ceiling = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (ceiling, ceiling))
    # Writing past RLIMIT_FSIZE must fail, not kill: the log is full, the video is fine.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
