"""A tool that is missing excuses a test on a laptop, and where changes land it does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = "tests/infra/test_terraform.py::test_every_directory_is_laid_out_alike"
"""One that needs Terraform, as all of its file do, and takes no time."""


@pytest.mark.parametrize(
    ("insisted", "code", "said"),
    [({}, 0, "1 skipped"), ({"FAIL_WITHOUT_TOOLS": "1"}, 1, "1 error")],
)
def test_a_missing_tool_fails_where_it_is_insisted_on(
    insisted: dict[str, str], code: int, said: str, tmp_path: Path
) -> None:
    """Here nothing is on the PATH; elsewhere the same test is skipped."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FAIL_", "PYTEST_"))}

    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", TEST],
        cwd=ROOT,
        env={**inherited, **insisted, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == code, answer.stdout + answer.stderr
    assert said in answer.stdout
    assert "terraform is not installed" in answer.stdout


def test_the_gate_insists() -> None:
    """Otherwise what needs a tool would be skipped for ever, and nobody would see it."""
    gate = (ROOT / ".ci" / "run").read_text("utf-8")

    assert re.search(r"^FAIL_WITHOUT_TOOLS=1 make infra$", gate, re.MULTILINE)
