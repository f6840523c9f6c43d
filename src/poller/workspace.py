"""Local disk: a directory for each job, gone when the job ends, however it ends."""

import asyncio
import fcntl
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from poller.errors import SettingsError

_PREFIX = "video-poller-"


class Workspace:
    """The directory of this process. Created by `open_workspace`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def job(self) -> AsyncIterator[Path]:
        """Make a directory for one job."""
        directory = Path(tempfile.mkdtemp(dir=self._root))
        try:
            yield directory
        finally:
            # Unlinking gigabytes takes a while on some file systems.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))


@contextmanager
def open_workspace(parent: Path | None) -> Iterator[Workspace]:
    """Make this process's directory, and remove those that killed processes left behind.

    A living owner holds a lock on its directory; the kernel drops it when the owner dies.
    """
    base = parent or Path(tempfile.gettempdir())
    try:
        base.mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    except OSError as error:
        raise SettingsError([f"POLLER_WORK_DIR={base}: {error.strerror}"]) from error
    for left in base.glob(f"{_PREFIX}*"):
        if left != root:
            _remove_if_unowned(left)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield Workspace(root)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _remove_if_unowned(directory: Path) -> None:
    try:
        with (directory / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    except OSError:
        return  # its owner lives, is just starting, or is another user
