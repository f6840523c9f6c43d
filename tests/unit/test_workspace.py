"""Local disk: nothing is left behind, and nothing of a living process is touched."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poller.workspace import open_workspace

_OWNER = """
import sys, time
from pathlib import Path
from poller.workspace import open_workspace
with open_workspace(Path(sys.argv[1])):
    print("open", flush=True)
    time.sleep(60)
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
