"""What speaks against a deployment, found before anything is touched."""

import re
import shutil
import subprocess

from environment import ROOT, Environment, FailedError, aws, call

_IMAGE_TOOLS = ("docker", "podman")
_BY_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def find_faults(environment: Environment, base_image: str) -> list[str]:
    """Everything that speaks against a deployment, in sentences; it only looks."""
    faults = list(find_faults_of_environment(environment))
    if not _BY_DIGEST.fullmatch(base_image):
        faults.append(
            f"base image {base_image}: a tag can move; name it as TAG@sha256:…,"
            " `docker buildx imagetools inspect TAG` says which digest it has now"
        )
    faults += [
        f"{tool} is not installed" for tool in ("git", "terraform", "aws") if not shutil.which(tool)
    ]
    if shutil.which("git") and (fault := find_fault_of_tree()):
        faults.append(fault)
    if shutil.which("aws") and environment.account and environment.region:
        faults += find_faults_of_account(environment)
    return faults


def find_faults_of_environment(environment: Environment) -> list[str]:
    """It is there, its owner has said whose it is, and Terraform knows where its state is."""
    directory = environment.directory
    environments = ROOT / "terraform" / "environments"
    found = sorted(path.parent.name for path in environments.glob("*/main.tf"))
    if environment.name not in found:
        return [f"no environment {environment.name!r}: there are {', '.join(found) or 'none'}"]
    stated = {"account_id": environment.account, "region": environment.region}
    faults = [
        f"{name} is not stated: write it to {directory.relative_to(ROOT)}/terraform.tfvars"
        for name, value in stated.items()
        if not value
    ]
    if not (directory / ".terraform").is_dir():
        faults.append(
            f"{directory.relative_to(ROOT)} is not initialised: `terraform init` there first, as"
            f" docs/deploy.md says"
        )
    return faults


def find_fault_of_tree() -> str | None:
    """What runs must be what is committed: a digest leads to a commit, and a commit to its code."""
    try:
        changes = call("git", "-C", str(ROOT), "status", "--porcelain")
    except FailedError as error:
        return str(error)
    if not changes:
        return None
    lines = changes.splitlines()
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return f"the tree is dirty, commit first: {', '.join(map(str.strip, lines[:3]))}{more}"


def find_faults_of_account(environment: Environment) -> list[str]:
    """The credentials are those of the environment's account."""
    try:
        account = aws(environment, "sts", "get-caller-identity")["Account"]
    except FailedError as error:
        return [str(error)]
    if account != environment.account:
        named = environment.name
        return [f"these are credentials of account {account}; {named} is in {environment.account}"]
    return []


def find_image_tool() -> str | None:
    """The first one that is installed and whose daemon, if it needs one, answers."""
    for tool in filter(shutil.which, _IMAGE_TOOLS):
        if subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0:
            return tool
    return None
