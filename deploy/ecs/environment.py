"""An environment of `terraform/environments`, and the programs that are asked about it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class FailedError(Exception):
    """Something did not go as it should; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A directory of `terraform/environments`, and what its owner wrote down about it."""

    name: str
    directory: Path
    account: str | None
    region: str | None


def call(*command: str, said: bytes = b"") -> str:
    """Run a program, and return what it prints.

    Raises:
        FailedError: it fails; with what it says about it.
    """
    answer = subprocess.run(command, input=said, capture_output=True, check=False)
    if answer.returncode != 0:
        complaint = answer.stderr.decode(errors="replace").strip() or "no reason given"
        raise FailedError(f"`{' '.join(command[:3])}` failed: {complaint[-2000:]}")
    return answer.stdout.decode().strip()


def show(*command: str) -> None:
    """Run a program in front of the person.

    Raises:
        FailedError: it fails.
    """
    sys.stdout.flush()
    if subprocess.run(command, check=False).returncode != 0:
        raise FailedError(f"`{' '.join(command[:3])}` failed, see above")


def say(text: str) -> None:
    """Tell which step begins."""
    print(f"== {text}", flush=True)


def read_environment(name: str) -> Environment:
    """What is known of an environment without asking anybody."""
    directory = ROOT / "terraform" / "environments" / name
    written = directory / "terraform.tfvars"
    text = written.read_text("utf-8") if written.is_file() else ""

    def variable(wanted: str) -> str | None:
        found = re.search(rf'^\s*{wanted}\s*=\s*"([^"]*)"', text, re.MULTILINE)
        return found[1] if found else os.environ.get(f"TF_VAR_{wanted}")

    return Environment(name, directory, variable("account_id"), variable("region"))


def aws(environment: Environment, *arguments: str) -> Any:
    """Ask AWS, in the environment's region."""
    answer = call("aws", *arguments, "--region", str(environment.region), "--output", "json")
    return json.loads(answer) if answer else None


def terraform(environment: Environment, *arguments: str) -> list[str]:
    """A command line of Terraform in the environment."""
    return ["terraform", f"-chdir={environment.directory}", *arguments]
