"""What is in the image and what it is made of; `deploy/image-check` builds and runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from poller.bundles import CACHE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text("utf-8")
LINES = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
TASK = (ROOT / "deploy" / "ecs" / "task-definition.json.tftpl").read_text("utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")


def last_stage() -> list[str]:
    """The instructions that the image itself is made with."""
    starts = [number for number, line in enumerate(LINES) if line.startswith("FROM ")]
    return LINES[starts[-1] :]


def words_of(instruction: str) -> list[str]:
    """What follows an instruction, wherever the last stage gives it."""
    prefix = f"{instruction} "
    return [line.removeprefix(prefix) for line in last_stage() if line.startswith(prefix)]


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed")
def test_hadolint_is_content() -> None:
    """Each exception stands in the file, with its reason."""
    answer = subprocess.run(
        [HADOLINT, ROOT / "Dockerfile.gpu"], capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_base_is_named_by_its_digest() -> None:
    """A tag is another image tomorrow; what a person gives instead, the deployment looks at."""
    assert re.fullmatch(r"ARG BASE_IMAGE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", LINES[0])
    assert {line.split()[1] for line in LINES if line.startswith("FROM ")} == {
        "${BASE_IMAGE}",
        "dependencies",
        "python",
    }


def test_the_last_stage_installs_nothing() -> None:
    """No compiler and no installer gets there: what needs one is made in an earlier stage."""
    runs = " ".join(words_of("RUN"))

    assert "apt-get" not in runs
    assert "pip" not in runs
    assert [line for line in LINES if line.startswith("FROM ")][-1] == "FROM python AS service"


def test_user_and_directory_are_those_of_the_task() -> None:
    """The task definition names the user by number and mounts a volume on each directory.

    Docker gives a new volume the owner of what it covers: both are there, and the user's.
    """
    module = (ROOT / "terraform" / "modules" / "service" / "main.tf").read_text("utf-8")
    user = re.findall(r'^\s*user\s*= "(.+)"', module, re.MULTILINE)
    work_dir = re.findall(r'^\s*work_dir\s*= "(.+)"', module, re.MULTILINE)

    assert words_of("USER") == user
    assert re.findall(r"POLLER_WORK_DIR=(\S+)", DOCKERFILE) == work_dir
    bundles = f"{work_dir[0]}/{CACHE}"
    install = f"install --directory --owner=10001 --group=10001 {work_dir[0]} {bundles}"
    assert install in words_of("RUN")[0]
    assert f'"containerPath": ${{jsonencode("${{work_dir}}/{CACHE}")}}' in TASK


def test_the_health_check_needs_no_shell_and_no_curl() -> None:
    """The image has a Python, and asks as ECS does."""
    [check] = words_of("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])

    assert command[:2] == ["python", "-c"]
    assert "/healthz" in command[2]
    assert f'"command": ["CMD", {json.dumps(command[0])}, {json.dumps(command[1])}' in TASK
    assert compile(command[2], "health check", "exec")


def test_versions_are_those_of_the_lock() -> None:
    """Torch by the Makefile's line, all else by constraints.txt, and nothing beside them."""
    [torch] = re.findall(r"^TORCH := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    installs = [line for line in LINES if "pip/bin/pip" in line]

    assert len(installs) == 3
    assert installs[0].endswith(f"install --constraint constraints.txt {torch}")
    assert installs[1].endswith(
        "install --constraint constraints.txt --requirement requirements.txt"
    )
    assert "--no-deps --no-build-isolation" in installs[2]


def test_everything_that_is_installed_is_in_the_lock() -> None:
    """Torch, and what CUDA builds of it bring along, it pins itself."""
    listed = subprocess.run(
        [sys.executable, ROOT / "deploy" / "ecs" / "installed.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    lock = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    locked = {canonicalize_name(line.partition("==")[0]) for line in lock}
    names = {line.partition("==")[0] for line in listed.stdout.splitlines()}
    cuda = {name for name in names if re.match("(nvidia|cuda|triton)", name)}

    assert {"boto3", "numpy", "torch"} <= names
    assert names - cuda - locked == {"torch"}


def test_nothing_that_is_not_named_is_copied() -> None:
    """Neither credentials nor a model lie in the context: it holds four names."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        name
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }

    assert "*" in rules
    assert copied == allowed
