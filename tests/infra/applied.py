"""An environment of `terraform/environments`, applied to an emulator of AWS."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

ROOT = Path(__file__).parents[2]
TERRAFORM = shutil.which("terraform") or ""
ACCOUNT = "123456789012"
REGION = "eu-central-1"
DIGEST = "sha256:" + "0123456789abcdef" * 4

OVERRIDE = """
terraform {
  backend "local" {}
}

provider "aws" {
  skip_metadata_api_check = true
  s3_use_path_style       = true
}
"""
COMPUTED = {"arn", "id", "iam_role", "platform_version", "tags", "tags_all", "triggers"}
"""What a replacement leaves open, or a null and an empty map tell apart."""


@contextmanager
def emulator(log: Path) -> Iterator[str]:
    """Start an emulator of its own, empty, and give its URL."""
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, Path(__file__).with_name("emulator.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        # Leaving closes its standard input, and waits.


@dataclass(frozen=True)
class Applied:
    """An environment that is there: what it says of itself, and how to speak to its AWS."""

    name: str
    endpoint: str
    stack: Mapping[str, Any]
    """Its outputs."""
    resources: Mapping[str, Mapping[str, Any]]
    """What was made: attributes by address."""
    changes: Mapping[str, set[str]]
    """What a second apply would have changed at once: attributes by resource."""

    @property
    def aws(self) -> dict[str, str]:
        """`AWS_*` variables of its emulator."""
        return credentials(self.endpoint)

    def client(self, service: str) -> Any:
        """Speak to its emulator."""
        session = boto3.Session("test", "test", region_name=REGION)
        return session.client(service, endpoint_url=self.endpoint)

    def containers(self, output: str) -> dict[str, dict[str, Any]]:
        """The containers of the registered task that this output names, by name."""
        ecs = self.client("ecs")
        task = ecs.describe_task_definition(taskDefinition=self.stack[output])
        return {c["name"]: c for c in task["taskDefinition"]["containerDefinitions"]}


class Environment:
    """A copy of an environment, whose AWS is an emulator."""

    def __init__(self, name: str, copy: Path, endpoint: str) -> None:
        shutil.copytree(ROOT / "terraform", copy / "terraform")
        shutil.copytree(ROOT / "deploy" / "ecs", copy / "deploy" / "ecs")
        self._directory = copy / "terraform" / "environments" / name
        (self._directory / "emulator_override.tf").write_text(OVERRIDE, "utf-8")
        self._environment = {
            **{name: v for name, v in os.environ.items() if not name.startswith("AWS_")},
            **credentials(endpoint),
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_INPUT": "0",
            "TF_VAR_account_id": ACCOUNT,
            "TF_VAR_emails": '["ops@example.com"]',
            "TF_VAR_image_digest": DIGEST,
            "TF_VAR_region": REGION,
        }

    def terraform(self, *arguments: str) -> str:
        """Run it there."""
        answer = subprocess.run(
            [TERRAFORM, *arguments, "-no-color"],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )
        assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
        return answer.stdout

    def changes(self) -> dict[str, set[str]]:
        """What a further apply would change: attributes by resource."""
        self.terraform("plan", "-out=again.tfplan")
        plan = json.loads(self.terraform("show", "-json", "again.tfplan"))
        differences = {}
        for resource in plan["resource_changes"]:
            change = resource["change"]
            if change["actions"] not in (["no-op"], ["read"]):
                before, after = change["before"] or {}, change["after"] or {}
                names = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
                address = resource["address"].removeprefix("module.stack.")
                differences[address] = names - COMPUTED
        return differences

    def resources(self) -> dict[str, dict[str, Any]]:
        """What there is: attributes by address."""
        (stack,) = json.loads(self.terraform("show", "-json"))["values"]["root_module"][
            "child_modules"
        ]
        modules = [stack, *stack["child_modules"]]
        return {
            resource["address"].removeprefix("module.stack."): resource["values"]
            for module in modules
            for resource in module.get("resources", [])
            if resource["mode"] == "managed"
        }


def credentials(endpoint: str) -> dict[str, str]:
    """`AWS_*` variables of an emulator."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def find_mirror() -> str:
    """This machine's mirror of the provider, if it has one, as `terraform/check` finds it."""
    return subprocess.run(
        [ROOT / "terraform" / "check", "mirror"], capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def apply(name: str, directory: Path) -> Iterator[Applied]:
    """Make an environment, and unmake it: nothing may be left over."""
    with emulator(directory / "emulator.log") as endpoint:
        environment = Environment(name, directory / "copy", endpoint)
        found = find_mirror()
        environment.terraform("init", *([f"-plugin-dir={found}"] if found else []))
        environment.terraform("apply", "-auto-approve")
        changes = environment.changes()
        stack = json.loads(environment.terraform("output", "-json"))["stack"]["value"]
        applied = Applied(name, endpoint, stack, environment.resources(), changes)
        yield applied
        unlock(applied)
        environment.terraform("destroy", "-auto-approve")
        assert environment.terraform("state", "list") == ""
        assert applied.client("s3").list_buckets()["Buckets"] == []
        assert "QueueUrls" not in applied.client("sqs").list_queues()


def unlock(applied: Applied) -> None:
    """Do by hand what keeps an environment from being destroyed by mistake."""
    if applied.name == "dev":
        return
    session = boto3.Session("test", "test", region_name=REGION)
    s3 = session.resource("s3", endpoint_url=applied.endpoint)
    s3.Bucket(applied.stack["raw_bucket"]).object_versions.delete()
    applied.client("rds").modify_db_instance(
        DBInstanceIdentifier="video-poller-prod", DeletionProtection=False, ApplyImmediately=True
    )


def open_buckets(applied: Applied) -> None:
    """Let anybody in who comes without TLS.

    The emulator overlooks the policies' condition and takes "TLS only" for "nobody".
    """
    for bucket in (applied.stack["raw_bucket"], applied.stack["results_bucket"]):
        applied.client("s3").delete_bucket_policy(Bucket=bucket)
