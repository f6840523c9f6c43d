"""Running `poller` as people and deployments do: as its own process."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run_poller(
    environment: Mapping[str, str], *arguments: str, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end and return its exit code and output."""
    return subprocess.run(
        [sys.executable, "-m", "poller", *arguments],
        env={**environment, "COLUMNS": "250", "PYTHONPATH": str(Path("src").resolve())},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        cwd=cwd,
    )
