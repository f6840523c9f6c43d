"""What a child process does to itself: it dies with its parent and keeps to its limits.

Apart from `child`, whose asyncio would add a tenth to the start of every decoder.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from inference import landlock, seccomp

_PR_SET_PDEATHSIG = 1
_NICENESS = 5
"""Below the device's process: frames that are decoded are worth more when they are inferred."""
_OPEN_FILES = 64
_FILE_BYTES = 16 << 20
"""What the process may write to a file: its stderr, and nothing else is meant to be written."""


_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    "/sys/devices/system/cpu",  # how many there are
)
"""What code is loaded from, besides Python's own directories."""


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
    """Limit this process for good, before it has touched the file that it is for.

    Address space, CPU time, open files; no core dump; and, as far as the kernel offers it,
    nothing to read but its code and the directory it was started in, nothing to write, no
    network, no program, no other process. `missing` tells the parent what is not offered.
    """
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
    landlock.restrict([Path.cwd(), *_code()])
    seccomp.install()  # last: it takes away what the others need


def missing() -> list[str]:
    """Name what this kernel does not offer to the cage of a decoder; nothing, where it is whole.

    A container's own filter of system calls counts as the kernel here.
    """
    lacks = []
    if landlock.version() == 0:
        lacks.append("Landlock: decoders may read whatever this user may read")
    if not seccomp.is_offered():
        lacks.append("seccomp: decoders may open sockets, start programs and write files")
    return lacks


def _code() -> Iterator[Path]:
    yield Path(__file__).parent
    yield from map(Path, sys.path)
    for prefix in {sys.prefix, sys.base_prefix}:
        yield from (Path(prefix, "lib"), Path(prefix, "lib64"))
    yield from map(Path, _SYSTEM)
