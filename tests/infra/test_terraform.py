"""`terraform/check`: what is there passes, and faults that are planted in a copy do not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
    pytest.mark.timeout(1800),
]

FAULTS = {
    "misspelt argument": (
        "intake",
        "main.tf",
        "visibility_timeout_seconds = var",
        "visibility_timeout_second = var",
        "Unsupported argument",
    ),
    "missing required argument": (
        "scaling",
        "main.tf",
        "  max_capacity       = var.max_tasks\n",
        "",
        "Missing required argument",
    ),
    "reference to no resource": (
        "intake",
        "main.tf",
        "deadLetterTargetArn = aws_sqs_queue.dlq.arn",
        "deadLetterTargetArn = aws_sqs_queue.dead.arn",
        "Reference to undeclared resource",
    ),
    "unknown block": (
        "service",
        "main.tf",
        "  deployment_circuit_breaker {",
        "  deployment_breaker {",
        "Unsupported block type",
    ),
    "reference to no variable": (
        "cluster",
        "main.tf",
        "max_size              = var.max_instances",
        "max_size              = var.most_instances",
        "Reference to undeclared input variable",
    ),
    "reference to no attribute": (
        "intake",
        "outputs.tf",
        "url = aws_sqs_queue.dlq.url",
        "url = aws_sqs_queue.dlq.address",
        "Unsupported attribute",
    ),
    "value of the wrong type": (
        "cluster",
        "main.tf",
        "protect_from_scale_in = true",
        'protect_from_scale_in = "always"',
        "Incorrect attribute value type",
    ),
    "value that is none of those allowed": (
        "cluster",
        "main.tf",
        'http_tokens                 = "required"',
        'http_tokens                 = "always"',
        "expected .*http_tokens",
    ),
    "unknown resource type": (
        "alarms",
        "main.tf",
        'resource "aws_sns_topic" "this"',
        'resource "aws_sns_subject" "this"',
        "Invalid resource type",
    ),
    "argument that a module does not take": (
        "stack",
        "main.tf",
        "  wait_time_seconds   = var.wait_time_seconds\n",
        "  poll_seconds        = var.wait_time_seconds\n",
        "Unsupported argument",
    ),
    "output that a module does not have": (
        "stack",
        "main.tf",
        "= module.cluster.autoscaling_group",
        "= module.cluster.group",
        "Unsupported attribute",
    ),
    "cycle": (
        "intake",
        "main.tf",
        "  message_retention_seconds = var.dlq_retention_days * local.day",
        "  message_retention_seconds = aws_sqs_queue.uploads.message_retention_seconds",
        "Cycle",
    ),
    "two of a name": (
        "image",
        "main.tf",
        'resource "aws_ecr_lifecycle_policy" "this"',
        'resource "aws_ecr_repository" "this"',
        "Duplicate resource",
    ),
}
"""What is wrong: the module, the file, what stands there, what is put there, what is said."""

SLIPS = {
    "visibility is no longer the queue's": (
        "intake",
        "visibility_timeout_seconds = var.visibility_seconds",
        "visibility_timeout_seconds = 30",
    ),
    "dead letters have nowhere to go": (
        "intake",
        "    deadLetterTargetArn = aws_sqs_queue.dlq.arn\n",
        "    deadLetterTargetArn = aws_sqs_queue.dlq.url\n",
    ),
    "two deliveries are the most": (
        "intake",
        "maxReceiveCount     = var.max_receive_count",
        "maxReceiveCount     = 2",
    ),
    "cameras that write .MOV are not heard": (
        "intake",
        "endings = sort(distinct(flatten([for suffix in var.suffixes : [suffix, upper(suffix)]])))",
        "endings = sort(var.suffixes)",
    ),
    "the queue policy forgets the account": (
        "intake",
        '          StringEquals = { "aws:SourceAccount" = local.account }\n',
        "",
    ),
    "the database takes anybody": (
        "database",
        "publicly_accessible    = false",
        "publicly_accessible    = true",
    ),
    "the instances answer to IMDSv1": (
        "cluster",
        'http_tokens                 = "required"',
        'http_tokens                 = "optional"',
    ),
    "the agent's role may do anything": (
        "cluster",
        "service-role/AmazonEC2ContainerServiceforEC2Role",
        "AdministratorAccess",
    ),
    "three instances a step": ("cluster", "max_step = 2", "max_step = 3"),
    "the task may do more": (
        "service",
        '["secretsmanager:GetSecretValue"]',
        '["secretsmanager:*"]',
    ),
    "reconcile starts a GPU instance": (
        "service",
        'launch_type         = "FARGATE"',
        'launch_type         = "EC2"',
    ),
    "the scheduler hands over any role": (
        "service",
        "Resource  = [aws_iam_role.task.arn, aws_iam_role.execution.arn]",
        'Resource  = ["*"]',
    ),
    "one message wakes nobody": (
        "scaling",
        "metric_interval_lower_bound = 0",
        "metric_interval_lower_bound = 1",
    ),
    "sleep takes missing data for quiet": (
        "scaling",
        '  # Metrics that lag are no proof of quiet.\n  treat_missing_data = "notBreaching"\n',
        '  treat_missing_data = "breaching"\n',
    ),
    "an alarm tells nobody": ("alarms", "  alarm_actions      = [aws_sns_topic.this.arn]\n", ""),
}
"""What is wrong though it is valid: the module, what stands in its main.tf, what is put there."""


def plant(copy: Path, module: str, file: str, old: str, new: str) -> None:
    """Replace what must stand there exactly once."""
    shutil.copytree(ROOT / "terraform", copy / "terraform")
    shutil.copytree(ROOT / "deploy" / "ecs", copy / "deploy" / "ecs")
    path = copy / "terraform" / "modules" / module / file
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), "utf-8")


def check(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the copy's own check on the copy."""
    return subprocess.run(
        [root / "terraform" / "check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )


@pytest.mark.parametrize("what", ["fmt", "validate", "test"])
def test_what_is_there_passes(what: str) -> None:
    """Format, every module and environment, every number and relation of the plan."""
    answer = check(ROOT, what)

    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused(fault: str, tmp_path: Path) -> None:
    """And what is said names it."""
    module, file, old, new, said = FAULTS[fault]
    plant(tmp_path, module, file, old, new)

    answer = check(tmp_path, "validate", f"modules/{module}")

    assert answer.returncode != 0
    assert re.search(said, " ".join((answer.stdout + answer.stderr).split()))


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_that_is_valid_fails_a_test(slip: str, tmp_path: Path) -> None:
    """The tests hold the numbers and relations: each of these breaks one."""
    module, old, new = SLIPS[slip]
    plant(tmp_path, module, "main.tf", old, new)

    answer = check(tmp_path, "test", f"tests/{module}.tftest.hcl")

    assert answer.returncode != 0
    assert "Test assertion failed" in answer.stdout + answer.stderr


def test_every_directory_is_laid_out_alike() -> None:
    """Four files, modules that lie beside it, and no provider but AWS's."""
    directories = [p for p in ROOT.glob("terraform/*/*") if (p / "main.tf").exists()]
    texts = [path.read_text("utf-8") for path in ROOT.glob("terraform/**/*.tf")]
    sources = {s for text in texts for s in re.findall(r'^ +source += "(.+)"$', text, re.MULTILINE)}

    assert len(directories) >= 11
    for directory in directories:
        found = {path.name for path in directory.glob("*.tf")}
        assert found == {"main.tf", "outputs.tf", "variables.tf", "versions.tf"}, directory
    assert {s for s in sources if not s.startswith("../")} == {"hashicorp/aws"}


def test_every_validation_is_shown_to_refuse() -> None:
    """Each variable with a limit has a run that expects its failure."""
    modules = ROOT / "terraform" / "modules"
    limited = {
        (path.parent.name, name)
        for path in modules.glob("*/variables.tf")
        for name, body in re.findall(
            r'variable "(\w+)" \{\n(.*?)\n\}', path.read_text("utf-8"), re.DOTALL
        )
        if "validation {" in body
    }
    tests = "".join(
        path.read_text("utf-8") for path in (ROOT / "terraform" / "tests").glob("*.hcl")
    )
    shown = {
        (module, name)
        for module, names in re.findall(
            r'source = "./modules/(\w+)"\n  \}\n+  expect_failures = \[(.*?)\]', tests
        )
        for name in re.findall(r"var\.(\w+)", names)
    }

    assert limited == shown
