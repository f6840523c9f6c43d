"""Commands in what is printed: as they were typed, so that they work when they are copied."""

import sys
from pathlib import Path

import pytest

from poller.cli.typed import command


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `poller` in a virtual environment that the shell finds programs in."""
    program = tmp_path / "bin" / "poller"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_a_name_that_the_shell_finds(installed: Path) -> None:
    """An activated environment: the bare name."""
    assert command(str(installed)) == "poller"


@pytest.mark.parametrize("typed", [".venv/bin/poller", "/opt/elsewhere/poller"])
def test_a_path(installed: Path, typed: str) -> None:
    """As it was typed: the shell finds none by the name, or another one."""
    assert installed
    assert command(typed) == typed


def test_a_path_with_a_space() -> None:
    """Quoted for the shell."""
    assert command("/my videos/poller") == "'/my videos/poller'"


def test_a_module(installed: Path) -> None:
    """The interpreter and `-m poller`."""
    started_as, interpreter = "/src/poller/__main__.py", str(installed.parent / "python3")

    assert command(started_as, interpreter) == f"{interpreter} -m poller"
    Path(interpreter).touch(mode=0o755)
    assert command(started_as, interpreter) == "python3 -m poller"
    assert command(started_as, sys.executable) == f"{sys.executable} -m poller"
