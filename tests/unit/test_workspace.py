"""Local disk: nothing is left behind, and nothing of a living process is touched."""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from poller.errors import SettingsError, UnavailableError
from poller.workspace import open_workspace

_OWNER = """
import sys, time
from pathlib import Path
from poller.workspace import open_workspace
with open_workspace(Path(sys.argv[1])):
    print("open", flush=True)
    time.sleep(60)
"""

_KILLED_AT = """
import os, signal, sys
from itertools import count
from pathlib import Path
from poller.workspace import open_workspace

numbers = count()

def watch(event, arguments):
    if event in ("os.remove", "os.rmdir") and next(numbers) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
with open_workspace(Path(sys.argv[1])):
    pass
"""


async def test_a_job_leaves_nothing(tmp_path: Path) -> None:
    """Its directory is gone after an error too, and the process's at its end."""
    with open_workspace(tmp_path) as workspace:
        with pytest.raises(ValueError, match="broken"):  # noqa: PT012 - the error is in the body
            async with workspace.job() as directory:
                (directory / "video").write_bytes(b"bytes")
                raise ValueError("broken")
        left = [path.name for path in tmp_path.glob("*/*")]

    assert left == ["lock"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """At the next start, and not while its owner lives."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        (owned,) = tmp_path.iterdir()
        with open_workspace(tmp_path):
            lives = owned.exists()
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)

    with open_workspace(tmp_path):
        pass

    assert lives
    assert not owned.exists()


def test_killed_while_it_removes(tmp_path: Path) -> None:
    """Before each single file and directory that it removes: the next process removes the rest."""
    killed = 0
    while True:
        left = tmp_path / "video-poller-left"
        (left / "job").mkdir(parents=True)
        (left / "job" / "video").touch()
        (left / "lock").touch()
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_AT, str(tmp_path), str(killed)], check=False
        )
        with open_workspace(tmp_path):
            pass

        assert list(tmp_path.iterdir()) == []
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1

    assert killed == 6  # the file, its directory, the lock, theirs; its own lock and directory


async def test_no_room_for_a_directory(tmp_path: Path) -> None:
    """What the disk refuses is an outage of the disk, and no bug."""
    with open_workspace(tmp_path) as workspace:
        shutil.rmtree(tmp_path)

        with pytest.raises(UnavailableError) as away:
            async with workspace.job():
                pytest.fail("there is no directory to work in")

    assert away.value.system == "disk"


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It is named and not made: a typing error would put gigabytes on the wrong disk."""
    with (
        pytest.raises(SettingsError) as refused,
        open_workspace(tmp_path / "typo"),
    ):
        pytest.fail("it has nowhere to work")

    assert refused.value.lines == [f"POLLER_WORK_DIR={tmp_path}/typo: there is no such directory"]
    assert list(tmp_path.iterdir()) == []


def test_no_temporary_directory_can_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the root is read-only: one line that says what to set."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])

    line = "no temporary directory can be written to: let TMPDIR name one that can"
    with pytest.raises(SettingsError, match=line), open_workspace(None):
        pass


def test_processes_that_start_together_leave_each_other_alone(tmp_path: Path) -> None:
    """None removes the directory that another one has made and is about to lock."""

    async def work_once() -> bool:
        with open_workspace(tmp_path) as workspace:
            async with workspace.job() as directory:
                return directory.exists()

    def open_and_look(_: int) -> bool:
        return asyncio.run(work_once())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(open_and_look, range(600)))

    assert list(tmp_path.iterdir()) == []
