"""`poller simulate`, as it is typed."""

import json
import os
import re
from pathlib import Path

import pytest
from tests.commands import run_poller
from typer.testing import CliRunner

from poller.cli import app
from poller.errors import SettingsError

QUICK = ("--hours", "6", "--per-hour", "30")


def test_it_says_waits_hours_dollars_and_limits() -> None:
    """Also on a terminal of 80 columns, and without a word about its progress in the output."""
    said = run_poller(os.environ, "simulate", "constant", *QUICK, columns=80)

    assert said.returncode == 0, said.stderr
    assert "wait for the result, median" in said.stdout
    assert "GPU hours, spot" in said.stdout
    assert "connections of Postgres" in said.stdout
    assert "█" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        (["burst", "--burst", "1000", "--max-tasks", "1000"], ["instances started"], ["max_tasks"]),
        (
            ["burst", "--burst", "1000", "--max-tasks", "20"],
            ["instances", "max_tasks"],
            ["Nothing"],
        ),
        (
            ["constant", "--per-hour", "1", "--acceptable-wait", "300"],
            ["Nothing is short, and", "a task warm"],
            ["Too little"],
        ),
        (["constant", "--per-hour", "30"], ["Nothing is short."], ["Too little", "and"]),
        # More than four tasks can do in the rush, which the others wait for long enough.
        (["--per-hour", "120", "--acceptable-wait", "1800"], ["Nothing is short."], ["Too little"]),
    ],
)
def test_it_says_what_is_short(options: list[str], said: list[str], unsaid: list[str]) -> None:
    """Each thing, and what is to be done; the starts, where nothing else is."""
    shown = run_poller(os.environ, "simulate", "--hours", "24", *options)

    assert shown.returncode == 0, shown.stderr
    verdict = "".join(re.split(r"┘\n", shown.stdout)[-1:])
    assert all(words in verdict for words in said), verdict
    assert not any(words in verdict for words in unsaid), verdict


def test_the_same_command_gives_the_same_answer(tmp_path: Path) -> None:
    """And another seed another one."""
    command = ("simulate", "burst", "--burst", "50", *QUICK, "--json")
    plot = tmp_path / "plot.svg"

    one = run_poller(os.environ, *command, "--plot", str(plot))
    two, other = (run_poller(os.environ, *command, "--seed", seed) for seed in ("1", "2"))

    assert one.returncode == 0, one.stderr
    assert json.loads(one.stdout) == json.loads(two.stdout) != json.loads(other.stdout)
    assert plot.read_text("utf-8").startswith("<svg")


def test_recorded_uploads_under_an_applied_policy(tmp_path: Path) -> None:
    """The terms come from what was applied; an option goes before them."""
    shipped = json.loads(Path("src/poller/simulation/scaling.json").read_text("utf-8"))
    terms = {"acceptable_wait_seconds": 1800, "seconds_per_video": 30, "quiet_seconds": 600}
    stack = {"scaling_policy": {**shipped, **terms, "max_tasks": 20}}
    (tmp_path / "stack.json").write_text(json.dumps(stack), "utf-8")
    (tmp_path / "uploads.csv").write_text("arrived_at\n2025-12-29 10:00:00+00\n", "utf-8")

    said = run_poller(
        os.environ,
        "simulate",
        str(tmp_path / "uploads.csv"),
        "--policy",
        str(tmp_path / "stack.json"),
        "--max-tasks",
        "7",
    )

    assert said.returncode == 0, said.stderr
    assert "30 s each; at most 7 tasks, 60 messages for each" in said.stdout


def test_a_mistyped_year_is_refused(tmp_path: Path) -> None:
    """Rather than simulated, minute by minute."""
    path = tmp_path / "uploads.csv"
    path.write_text("arrived_at\n2026-01-01\n2020-01-01\n2026-01-02\n", "utf-8")

    refused = CliRunner().invoke(app, ["simulate", str(path)])

    assert isinstance(refused.exception, SettingsError)
    assert refused.exception.lines == [
        "the CSV goes from 2020-01-01 to 2026-01-02; at most 8784 hours are simulated"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hourly"], "hourly is none of daily, constant, burst"),
        (["missing.csv"], "missing.csv cannot be read"),
        (["--plot", "plot.png"], "must end in .svg"),
        (["--warm", "19-7"], "the first one first"),
        (["--warm", "day"], "not of the form 7-19"),
        (["--acceptable-wait", "10"], "no number of tasks makes one video quicker"),
        (["--seconds-per-video", "0"], "must be above 0"),
        (["--max-tasks", "0"], "must be 1 to 1000"),
        (["--quiet", "310"], "whole minutes"),
        (["--per-hour", "1000000"], "take too long"),
        (["--instance-start", "inf", "--spread", "0.1"], "instance_start_seconds must be a number"),
        (["--acceptable-wait", "nan"], "acceptable_wait_seconds must be a number"),
        (["--policy", "missing.json"], "missing.json cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    """In one line for each fault."""
    refused = CliRunner().invoke(app, ["simulate", *arguments])

    assert isinstance(refused.exception, SettingsError)
    assert said in "".join(refused.exception.lines)
    assert not refused.stdout
