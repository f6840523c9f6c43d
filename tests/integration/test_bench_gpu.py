"""`python -m bench.gpu`: it says where no device is, and does all of it on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.xdist_group("bundles"), pytest.mark.timeout(900)]


def run_bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it where no CUDA device is to be seen."""
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )


def test_no_device() -> None:
    """One line, and the status of a wrong use."""
    answer = run_bench()

    assert (answer.returncode, answer.stderr) == (2, "no CUDA device\n")


def test_all_of_it_on_a_cpu() -> None:
    """The same code measures each figure and draws the table; nothing is kept as a result."""
    before = sorted((ROOT / "bench" / "results").iterdir())

    answer = run_bench("--device", "cpu", "--quick")

    assert answer.returncode == 0, answer.stderr
    for figure in ("own best rate", "pinned memory", "one frame at a time", "after warm-up"):
        assert figure in answer.stdout
    assert sorted((ROOT / "bench" / "results").iterdir()) == before
