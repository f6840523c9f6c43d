"""What is simulated is what is planned: each number and expression of `scaling.json`.

The expressions themselves are held by `tests/unit/test_simulation_policy.py`.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from poller.simulation.metric_math import parse_expression

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
    pytest.mark.timeout(1800),
]

BACKLOG = "aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0]"
WAKE = "aws_appautoscaling_policy.wake.step_scaling_policy_configuration[0]"
SLEEP = "aws_appautoscaling_policy.sleep.step_scaling_policy_configuration[0]"
NUMBERS = {
    "scale_out_cooldown": f"{BACKLOG}.scale_out_cooldown",
    "scale_in_cooldown": f"{BACKLOG}.scale_in_cooldown",
    "wake_threshold": "aws_cloudwatch_metric_alarm.wake.threshold",
    "wake_periods": "aws_cloudwatch_metric_alarm.wake.evaluation_periods",
    "wake_adjustment": f"one({WAKE}.step_adjustment).scaling_adjustment",
    "wake_cooldown": f"{WAKE}.cooldown",
    "sleep_threshold": "aws_cloudwatch_metric_alarm.sleep.threshold",
    "sleep_capacity": f"one({SLEEP}.step_adjustment).scaling_adjustment",
    "sleep_cooldown": f"{SLEEP}.cooldown",
    "period_seconds": "one(distinct([for query in concat("
    "tolist(aws_cloudwatch_metric_alarm.wake.metric_query),"
    " tolist(aws_cloudwatch_metric_alarm.sleep.metric_query))"
    " : query.metric[0].period if length(query.metric) > 0]))",
}
"""Where each number is in the plan."""

TRACKED = f"{BACKLOG}.customized_metric_specification[0].metrics"
ALARM = "aws_cloudwatch_metric_alarm"
QUERIES = {
    "backlog_per_task": (TRACKED, "metric_stat"),
    "wake": (f"{ALARM}.wake.metric_query", "metric"),
    "quiet": (f"{ALARM}.sleep.metric_query", "metric"),
}
"""Where each expression is in the plan, and what marks a metric that is fetched for it."""

RUN = """
mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                    = "n"
  cluster_name            = "n"
  service_name            = "n"
  queue_name              = "n"
  max_tasks               = 4
  acceptable_wait_seconds = 600
  seconds_per_video       = 60
  quiet_seconds           = 1200
  warm                    = null
}

run "changed" {
  command = plan

  module {
    source = "./modules/scaling"
  }
"""


def assertion(condition: str, name: str) -> str:
    """One block."""
    return f'  assert {{\n    condition     = {condition}\n    error_message = "{name}"\n  }}\n'


def test_every_number_and_expression_reaches_the_plan(tmp_path: Path) -> None:
    """Changed in the file alone, each is changed in the plan; and what it asks for is fetched."""
    shutil.copytree(ROOT / "terraform", tmp_path / "terraform")
    shutil.copytree(ROOT / "deploy" / "ecs", tmp_path / "deploy" / "ecs")
    path = tmp_path / "deploy" / "ecs" / "scaling.json"
    document = json.loads(path.read_text("utf-8"))
    expressions = {name: f"({text}) + 0" for name, text in document.pop("expressions").items()}
    numbers = {name: value + 60 for name, value in document.items()}
    assert numbers.keys() == NUMBERS.keys()
    path.write_text(json.dumps({"expressions": expressions, **numbers}), "utf-8")
    blocks = [assertion(f"{place} == {numbers[name]}", name) for name, place in NUMBERS.items()]
    for name, (place, mark) in QUERIES.items():
        found = f'[for q in {place} : q.expression if q.id == "{name}"]'
        fetched = f"toset([for q in {place} : q.id if length(q.{mark}) > 0])"
        wanted = json.dumps(sorted(parse_expression(expressions[name]).names))
        blocks.append(assertion(f"{found} == [{json.dumps(expressions[name])}]", name))
        blocks.append(assertion(f"{fetched} == toset({wanted})", f"metrics of {name}"))
    test = tmp_path / "terraform" / "tests" / "changed.tftest.hcl"
    test.write_text(RUN + "".join(blocks) + "}\n", "utf-8")

    answer = subprocess.run(
        [tmp_path / "terraform" / "check", "test", "tests/changed.tftest.hcl"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 passed, 0 failed" in answer.stdout
