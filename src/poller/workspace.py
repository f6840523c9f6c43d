"""Local disk: a directory for each job, gone when the job ends, however it ends."""

import asyncio
import fcntl
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO

from poller.errors import SettingsError, UnavailableError

NO_TEMPORARY = "no temporary directory can be written to: let TMPDIR name one that can"
_PREFIX = "video-poller-"
_LOCK = "lock"


class Workspace:
    """The directory of this process. Created by `open_workspace`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def job(self) -> AsyncIterator[Path]:
        """Make a directory for one job.

        Raises:
            UnavailableError: the disk is full, or the directory is gone.
        """
        try:
            directory = Path(tempfile.mkdtemp(dir=self._root))
        except OSError as error:
            raise UnavailableError("disk", f"{type(error).__name__}: {error}") from error
        try:
            yield directory
        finally:
            # Unlinking gigabytes takes a while on some file systems.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))


@contextmanager
def open_workspace(parent: Path | None) -> Iterator[Workspace]:
    """Make this process's directory, and remove those that killed processes left behind.

    A living owner holds a lock on its directory; the kernel drops it when the owner dies.

    Raises:
        SettingsError: `parent` is not there, or may not be written to.
    """
    if parent is not None and not parent.is_dir():
        raise SettingsError([f"POLLER_WORK_DIR={parent}: there is no such directory"])
    try:
        base = parent or Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise SettingsError([NO_TEMPORARY]) from error
    try:
        root, lock = _make_owned(base)
    except OSError as error:
        raise SettingsError([f"POLLER_WORK_DIR={base}: {error.strerror}"]) from error
    with lock:
        for left in base.glob(f"{_PREFIX}*"):
            if left != root:
                _remove_if_unowned(left)
        try:
            yield Workspace(root)
        finally:
            _remove(root)


def _make_owned(base: Path) -> tuple[Path, IO[str]]:
    """Make a directory and lock it; it is owned for as long as the lock file is open."""
    while True:
        root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # Another process may come in between, find it without an owner and remove it.
        with suppress(FileNotFoundError):
            lock = (root / _LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (root / _LOCK).exists():
                return root, lock
            lock.close()


def _remove_if_unowned(directory: Path) -> None:
    # Its owner lives, or is another user, or was quicker.
    with suppress(OSError):
        try:
            lock = (directory / _LOCK).open("r+")
        except FileNotFoundError:
            directory.rmdir()  # all but removed, or just made: then its maker makes another
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(directory)


def _remove(directory: Path) -> None:
    """Remove all of it, the lock last: of what a kill leaves, the next process sees the owner."""
    for job in directory.glob("*/"):
        shutil.rmtree(job, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
