"""Servers for the benches, and the service as a process on them."""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from poller.local.stack import running


@contextmanager
def stack() -> Iterator[dict[str, str]]:
    """The embedded stack, or the servers that the environment names."""
    with tempfile.TemporaryDirectory(prefix="bench-logs-") as logs, running(Path(logs)) as started:
        yield started.environment


@asynccontextmanager
async def service(**settings: str) -> AsyncIterator[int]:
    """A running service, ready to receive; yields its process id."""
    changed = {f"POLLER_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "poller", "run"),
        env={**os.environ, "POLLER_HTTP_PORT": "0", "POLLER_WAIT_TIME_SECONDS": "1", **changed},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - started with a pipe
    while not re.search(rb"service\.started", line := await process.stdout.readline()):
        if not line:
            raise RuntimeError("the service did not start")
    reader = asyncio.create_task(process.stdout.read(), name="discard-log")
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):  # a bench may have killed it
            process.terminate()
        await asyncio.wait([reader])
        await process.wait()
