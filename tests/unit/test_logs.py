"""What the log looks like where it is written."""

import subprocess
import sys
from pathlib import Path


def test_no_colours_in_a_file() -> None:
    """The lines for people are coloured on a terminal alone."""
    code = (
        "import structlog; from poller import logs; logs.configure('INFO', 'console');"
        "structlog.get_logger('poller').warning('an.event', what=1)"
    )

    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path("src").resolve())},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "an.event" in said.stdout
    assert "\x1b" not in said.stdout
