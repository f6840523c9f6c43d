"""How a child process of ours is started and ended; `confinement` is its own side."""

import asyncio
import fcntl
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from inference.wire import MAX_LINE_BYTES, MAX_TEXT, clean_text

_ROOT = Path(__file__).resolve().parents[1]
_BOOTSTRAP = (
    # The parent's own copy of the package, not another that happens to be installed; and only
    # that: its directory must not come before the standard library for anything else.
    "import sys; sys.path.insert(0, sys.argv[1]); import inference; del sys.path[0];"
    "from importlib import import_module; import_module(sys.argv[2]).main(sys.argv[3:])"
)
_END_SECONDS = 5


async def start_child(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path | None,
    descriptors: Sequence[int],
    stderr: IO[bytes],
) -> Process:
    """Start `module.main(arguments)` in a fresh interpreter that inherits only what is named.

    `-I` keeps the child's directory, which holds a stranger's file, off the import path.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-c", _BOOTSTRAP, str(_ROOT), module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        env=dict(environment),
        cwd=directory,
        pass_fds=tuple(descriptors),
        start_new_session=True,
        limit=MAX_LINE_BYTES,
    )


async def end_child(process: Process) -> int:
    """Kill the child and all it started, reap it, return its exit status (negative: a signal).

    A child that has ended by itself keeps its own status.
    """
    with suppress(ProcessLookupError):  # it has ended and been reaped
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    status = await process.wait()
    if process.stdout is not None:
        # What is left in the pipe is read so that the pipe closes; nobody is left to write more.
        with suppress(TimeoutError, ValueError):
            async with asyncio.timeout(_END_SECONDS):
                await process.stdout.read()
    return status


def open_log() -> IO[bytes]:
    """Make an anonymous file for a child's stderr: in no directory, gone with its holders."""
    fd = os.memfd_create("stderr", os.MFD_CLOEXEC)
    # Appending, so that the child can shorten it while it writes.
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return os.fdopen(fd, "r+b", buffering=0)


def read_tail(stderr: IO[bytes]) -> str:
    """Return the end of what a child wrote to its stderr file, as one printable line."""
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, stderr.tell() - MAX_TEXT))
    return clean_text(stderr.read().decode(errors="replace"))
