"""What the reference says exists, and what exists it says."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from typer.core import TyperGroup
from typer.main import get_command

from poller import metrics
from poller.cli import app
from poller.rules.failure import DEVICE_FAULT
from poller.rules.letter import is_redriven
from poller.rules.message import Requests, parse_message
from poller.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")


def test_every_setting_is_documented() -> None:
    """And no other."""
    documented = set(re.findall(r"^\| `(POLLER_\w+)`", REFERENCE, re.MULTILINE))

    assert documented == {f"POLLER_{name.upper()}" for name in Settings.model_fields}


def test_every_metric_is_documented() -> None:
    """And no other."""
    assert metrics
    documented = set(re.findall(r"^\| `(poller_\w+)`", REFERENCE, re.MULTILINE))
    families = [f for f in REGISTRY.collect() if f.name.startswith("poller_")]

    assert documented == {f.name + "_total" * (f.type == "counter") for f in families}


def given_reasons() -> set[str]:
    """What the code gives to the DLQ."""
    errors = "PermanentError|RetryableError|DecoderFailedError|VideoRejectedError|_RejectedError"
    givers = f"{errors}|Reject|Fail"
    given = set()
    for path in (ROOT / "src").rglob("*.py"):
        if "cli" in path.parts:
            continue  # what a command says goes to nobody's DLQ
        text = path.read_text("utf-8")
        given |= set(re.findall(rf'(?:{givers})\(\s*"(\w+)"', text))
    return given | {DEVICE_FAULT}


def rows_of(text: str) -> set[str]:
    """The names in code in the first column of any table."""
    firsts = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    return {name for first in firsts for name in re.findall(r"`([^`]+)`", first)}


@pytest.mark.parametrize("text", [REFERENCE, RUNBOOK], ids=["reference", "runbook"])
def test_every_reason_is_documented(text: str) -> None:
    """A reason that the code gives to the DLQ has its row of advice."""
    given = given_reasons()

    assert len(given) > 20
    assert given - rows_of(text) == set()


def test_the_runbook_knows_every_error_that_is_counted() -> None:
    """Also those that are no reason: outages, bugs, what comes back by itself."""
    sources = (ROOT / "src" / "poller").rglob("*.py")
    text = "".join(path.read_text("utf-8") for path in sources)
    counted = set(re.findall(r'ERRORS\.labels\("(\w+)"\)', text))
    counted |= set(re.findall(r'GiveBack\([^"()]*(?:\([^()]*\))?[^"()]*"(\w+)"', text))
    counted |= set(re.findall(r'LEASE_LOST.*|LeaseLostError\("(\w+)"\)', text)) - {""}
    counted |= set(re.findall(r'\breason="(\w+)"', text))

    assert counted >= {"internal", "settle", "interrupted", "fence", "heartbeat"}
    assert counted - rows_of(RUNBOOK) == set()


def test_the_runbook_names_what_there_is() -> None:
    """Metrics with their labels, settings, and headings to go to."""
    families = {f.name: f for f in REGISTRY.collect() if f.name.startswith("poller_")}
    labels = {
        collector._name: set(collector._labelnames)
        for collector in vars(metrics).values()
        if isinstance(collector, MetricWrapperBase)
    }
    settings = {f"POLLER_{name.upper()}" for name in Settings.model_fields}
    headings = re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}

    for name, selector in re.findall(r"\b(poller_\w+)(?:\{([^}]*)\})?", RUNBOOK):
        plain = re.sub(r"_(total|sum|count|bucket)$", "", name)
        assert plain in families, name
        assert set(re.findall(r"(\w+)=", selector)) <= labels[plain], name
    assert set(re.findall(r"\bPOLLER_\w+", RUNBOOK)) <= settings
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= slugs


def test_the_runbooks_message_starts_a_failed_video_over() -> None:
    """It is read as an announcement, and recognised as one from the DLQ."""
    body, attributes = re.findall(r"--message-(?:body|attributes) '(.+)'", RUNBOOK)

    assert isinstance(parse_message(body, {}), Requests)
    assert is_redriven(json.loads(attributes))


@pytest.mark.parametrize(
    "name", ["README.md", "docs/bundles.md", "docs/reference.md", "docs/runbook.md"]
)
def test_every_command_can_be_typed(name: str) -> None:
    """With these arguments and options; a name alone is no command to type."""
    text = (ROOT / name).read_text("utf-8")
    lines = re.findall(r"^(?:POLLER_\w+=\S+ |\.venv/bin/)?poller (.+)$", text, re.MULTILINE)
    lines += re.findall(r"`(?:POLLER_\w+=\S+ )?poller ([^` ]+ [^`]+)`", text)
    group = get_command(app)
    assert isinstance(group, TyperGroup)

    assert lines
    for command, *arguments in (shlex.split(line, comments=True) for line in lines):
        if command != "COMMAND":
            with group.commands[command].make_context(command, arguments):
                pass


@pytest.mark.parametrize(
    "name", ["README.md", "docs/architecture.md", "docs/decisions.md", "docs/runbook.md"]
)
def test_every_file_that_is_named_exists(name: str) -> None:
    """A map that leads nowhere is worse than none."""
    text = (ROOT / name).read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|sql|md|toml|yaml))`|\]\(([\w./]+)\)", text))
    roots = [ROOT, ROOT / "src", ROOT / "src/poller", ROOT / "src/inference", ROOT / "tests"]
    roots += [ROOT / "docs", ROOT / "tests/integration", ROOT / "src/poller/postgres"]

    paths = {first or second for first, second in named}
    assert [p for p in paths if not any((root / p).exists() for root in roots)] == []


def run_the_runbooks_poller(tmp_path: Path, task: str, code: str) -> tuple[int, list[str]]:
    """Its exit status and its calls, where ECS answers so to the start and with that exit code."""
    (function,) = re.findall(r"^poller\(\) \{\n.*?^\}\n", RUNBOOK, re.MULTILINE | re.DOTALL)
    calls = tmp_path / "calls"
    aws = """aws() {
  printf '%s\n' "$*" >> "$CALLS"
  case $2 in run-task) echo "$TASK" ;; describe-tasks) echo "$CODE" ;; esac
}
"""
    names = {
        "CALLS": str(calls),
        "CLUSTER": "cluster",
        "LOG_GROUP": "/ecs/group",
        "RUN": """aws ecs run-task --overrides '{"command":["status"],"name":"reconcile"}'""",
        "TASK": task,
        "CODE": code,
    }
    done = subprocess.run(
        ["bash", "-uc", f"{aws}{function}poller submit 's3://videos/a & b/*.mp4' --dry-run"],  # noqa: S607 # as an operator would
        env={"PATH": os.environ["PATH"], **names},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [task], done.stderr
    return done.returncode, calls.read_text("utf-8").splitlines()


def test_the_runbooks_poller_runs_beside_the_service(tmp_path: Path) -> None:
    """Its words take the place of `status`; it waits for its task, and shows that one's log."""
    task = "arn:aws:ecs:::task/cluster/0123"

    status, (started, waited, shown, asked) = run_the_runbooks_poller(tmp_path, task, "0")

    assert status == 0
    command = '"command":["submit","s3://videos/a & b/*.mp4","--dry-run"],"name":"reconcile"'
    assert started.startswith(f"ecs run-task --overrides {{{command}}} --query ")
    assert waited == f"ecs wait tasks-stopped --cluster cluster --tasks {task}"
    assert asked.startswith(f"ecs describe-tasks --cluster cluster --tasks {task} --query ")
    assert "--log-stream-names reconcile/reconcile/0123 " in shown


@pytest.mark.parametrize(
    ("task", "code", "calls"),
    [
        ("arn:aws:ecs:::task/cluster/0123", "1", 4),
        ("arn:aws:ecs:::task/cluster/0123", "None", 4),
        ("RESOURCE:MEMORY", "0", 1),
    ],
    ids=["failed", "killed", "not started"],
)
def test_the_runbooks_poller_fails_with_its_task(
    tmp_path: Path, task: str, code: str, calls: int
) -> None:
    """So that what follows it does not go on; a task that was not started is not waited for."""
    status, made = run_the_runbooks_poller(tmp_path, task, code)

    assert status == 1
    assert len(made) == calls
