#!/usr/bin/env python3
"""Deploys what is committed here to an environment of `terraform/environments`.

    deploy/ecs/deploy.py dev

Refuses before anything is touched: an environment that is not there or not initialised, a tree
with changes that nobody committed, credentials of another account, a base image that can move,
a tool that is missing. Then, in this order:

 1. the environment's repository of images, if this is the first time; asks
 2. build, start once, push; nothing of it where this commit has been pushed before
 3. terraform plan, and what it would do; asks
 4. terraform apply, of exactly that plan
 5. take the scale-in protection of the tasks of other versions, and wait until ECS runs the new
    one and nothing else; a roll-back is a failure
 6. a small video into the bucket; wait until the service logs that its result is stored

To go back: check out the earlier commit, and deploy that. Its image is still there.
Needs git, terraform, the AWS CLI, and docker or podman; and Python 3.11, and nothing else of it.
Exit codes: 0 done, 1 failed on the way, 2 refused and nothing was touched.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from environment import (
    ROOT,
    Environment,
    FailedError,
    aws,
    call,
    read_environment,
    say,
    show,
    terraform,
)
from refusals import find_faults, find_image_tool
from rollout import describe, is_steady, release, tell_tasks

_IMAGE_MODULE = "module.stack.module.image"
_NO_IMAGE = "sha256:" + "0" * 64
"""Stands for the digest where only the repository is made."""
_CLIP = """
import sys, tempfile
from pathlib import Path
from inference.samples import make_samples
with tempfile.TemporaryDirectory() as made:
    make_samples(Path(made))
    sys.stdout.buffer.write((Path(made) / "cuts.mp4").read_bytes())
"""
"""Makes a video of ten seconds, in the image."""


def read_stack(environment: Environment) -> dict[str, Any]:
    """What the environment says of itself, once it has been applied as a whole."""
    outputs = json.loads(call(*terraform(environment, "output", "-json")))
    stack: dict[str, Any] = outputs["stack"]["value"]
    return stack


def find_repository(environment: Environment) -> str | None:
    """Where images go: the state knows it when only this part was applied; outputs do not."""
    state = json.loads(call(*terraform(environment, "show", "-json")))
    modules = [state.get("values", {}).get("root_module", {})]
    for module in modules:
        modules += module.get("child_modules", [])
        for resource in module.get("resources", []):
            if resource["address"] == f"{_IMAGE_MODULE}.aws_ecr_repository.this":
                return str(resource["values"]["repository_url"])
    return None


def make_repository(environment: Environment, *, yes: bool) -> str:
    """Apply the part that an image must be there for, before there is one."""
    say("the first time: a repository for images")
    only = f"-target={_IMAGE_MODULE}"
    apply(environment, _NO_IMAGE, "Make the repository?", only, yes=yes)
    repository = find_repository(environment)
    if repository is None:
        raise FailedError(f"{_IMAGE_MODULE} was applied and has no repository")
    return repository


def ask(question: str, *, is_agreed: bool) -> None:
    """Go on only if a person, or `--yes`, says so.

    Raises:
        FailedError: the answer is another one.
    """
    if not is_agreed and (not sys.stdin.isatty() or input(f"{question} [y/N] ").lower() != "y"):
        raise FailedError(f"{question} Not agreed to (--yes agrees), so it was not done")


def apply(environment: Environment, digest: str, question: str, *options: str, yes: bool) -> None:
    """Plan, show, ask, and apply exactly what was shown."""
    with tempfile.TemporaryDirectory() as directory:
        plan = f"{directory}/plan"
        variable = f"-var=image_digest={digest}"
        show(*terraform(environment, "plan", "-input=false", variable, f"-out={plan}", *options))
        ask(question, is_agreed=yes)
        show(*terraform(environment, "apply", "-input=false", plan))


def find_pushed(environment: Environment, repository: str, tag: str) -> str | None:
    """The digest of what was pushed with this tag, which never moves."""
    name = repository.partition("/")[2]
    images = aws(environment, "ecr", "list-images", "--repository-name", name)["imageIds"]
    return next((image["imageDigest"] for image in images if image.get("imageTag") == tag), None)


def read_base_image() -> str:
    """What Dockerfile.gpu builds on when it is not told."""
    text = (ROOT / "Dockerfile.gpu").read_text("utf-8")
    return text.partition("\nARG BASE_IMAGE=")[2].partition("\n")[0]


def build(tool: str, image: str, base_image: str, revision: str) -> None:
    """Build the image of this commit, and start it once, with nothing that it could reach."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    arguments = {
        "BASE_IMAGE": base_image,
        "VERSION": version,
        "REVISION": revision,
        "CREATED": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # Else a push is three images, of which the repository keeps so many.
    os.environ["BUILDX_NO_DEFAULT_ATTESTATIONS"] = "1"
    show(
        *(tool, "build", "--platform=linux/amd64", f"--file={ROOT / 'Dockerfile.gpu'}"),
        *(*options, f"--tag={image}", str(ROOT)),
    )
    call(*run_once(tool, image), "--help")


def run_once(tool: str, image: str, *options: str) -> Sequence[str]:
    """A command line that runs the image as ECS does, but without a network."""
    return (
        *(tool, "run", "--rm", "--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=ALL"),
        *(*options, image),
    )


def log_in(tool: str, environment: Environment, repository: str) -> None:
    """Let the tool push and pull there for some hours."""
    password = call("aws", "ecr", "get-login-password", "--region", str(environment.region))
    registry = repository.partition("/")[0]
    call(tool, "login", "--username=AWS", "--password-stdin", registry, said=password.encode())


def push(tool: str, image: str) -> str:
    """Push the image, and return its digest; `log_in` came before.

    Raises:
        FailedError: the repository refuses, or the tool does not say what it pushed.
    """
    show(tool, "push", image)
    named = call(tool, "inspect", "--format={{json .RepoDigests}}", image)
    repository = image.rpartition(":")[0]
    for name in json.loads(named):
        if name.startswith(f"{repository}@sha256:"):
            return str(name.partition("@")[2])
    raise FailedError(f"{tool} does not know the digest of {image}: {named}")


def wait_until(
    done: Callable[[], bool], what: str, *, minutes: float, every_seconds: float
) -> None:
    """Look until it is done.

    Raises:
        FailedError: not in time.
    """
    deadline = time.monotonic() + minutes * 60
    while not done():
        if time.monotonic() > deadline:
            raise FailedError(f"{what}: not within {minutes:g} minutes")
        time.sleep(every_seconds)


def smoke(tool: str, environment: Environment, stack: Mapping[str, Any], image: str) -> str:
    """Upload a small video that the image itself makes; returns its key."""
    clip = subprocess.run(
        [*run_once(tool, image, "--entrypoint=python"), "-c", _CLIP],
        capture_output=True,
        check=False,
    )
    if clip.returncode != 0:
        raise FailedError(f"the image cannot make a video: {clip.stderr.decode()[-2000:]}")
    key = f"{stack['upload_prefix']}smoke/{image.rpartition(':')[2]}-{time.time_ns()}.mp4"
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(clip.stdout)
        file.flush()
        put = ("s3api", "put-object", "--bucket", stack["raw_bucket"], "--key", key)
        aws(environment, *put, "--body", file.name)
    return key


def is_analysed(environment: Environment, stack: Mapping[str, Any], key: str, since: int) -> bool:
    """Tell whether the service has logged that this video's result is stored.

    Raises:
        FailedError: it has logged another end.
    """
    found = aws(
        environment,
        *("logs", "filter-log-events", "--log-group-name", stack["log_group"]),
        *("--start-time", str(since * 1000)),
        *("--filter-pattern", f'"{key}"'),
    )
    lines = [event["message"] for event in found["events"] if event["message"].startswith("{")]
    events = [e for e in map(json.loads, lines) if e.get("event") == "video.finished"]
    if any("stored" in event["outcomes"] for event in events):
        return True
    letters = [event for event in events if event["verdict"] == "deadletter"]
    if letters:
        raise FailedError(f"the service could not analyse {key}: {letters[0]['reason']}")
    return False


def deploy(tool: str, environment: Environment, options: argparse.Namespace) -> None:
    """Do all that the module's docstring says, in its order; nothing speaks against it."""
    revision = call("git", "-C", str(ROOT), "rev-parse", "HEAD")
    show(*terraform(environment, "init", "-input=false"))
    repository = find_repository(environment) or make_repository(environment, yes=options.yes)
    image = f"{repository}:{revision}"
    log_in(tool, environment, repository)
    digest = find_pushed(environment, repository, revision)
    if digest is None:
        say(f"build and push {image}")
        build(tool, image, options.base_image, revision)
        digest = push(tool, image)
    say(f"{environment.name}: commit {revision[:12]}, image {digest}")
    apply(environment, digest, f"Apply this to {environment.name}?", yes=options.yes)
    stack = read_stack(environment)
    say("wait until ECS runs it")
    wait = {"minutes": options.minutes, "every_seconds": options.every_seconds}
    told = ""

    def is_replaced() -> bool:
        nonlocal told
        service = describe(environment, stack)
        if is_steady(service, stack["task_definition"]):
            return True
        release(environment, stack)  # not before it is known that ECS has not gone back
        before, told = told, tell_tasks(service)
        if told != before:
            say(told)
        return False

    wait_until(
        is_replaced,
        "the service is not steady (are there GPUs for all tasks? docs/runbook.md, pending tasks)",
        **wait,
    )
    if options.smoke:
        since = int(time.time()) - 60
        key = smoke(tool, environment, stack, image)
        say(f"wait until s3://{stack['raw_bucket']}/{key} is analysed")
        wait_until(
            lambda: is_analysed(environment, stack, key, since),
            "no result (in a deep queue the video waits its turn; `poller status` counts)",
            **wait,
        )
    say("done")


def main() -> int:
    """Read the command line, refuse or deploy; returns the exit code."""
    teaching = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=teaching)
    parser.add_argument("environment", help="a directory of terraform/environments: dev, prod")
    parser.add_argument(
        "--base-image",
        default=read_base_image(),
        help="TAG@sha256:…, default: %(default)s, as Dockerfile.gpu says",
    )
    parser.add_argument("--yes", action="store_true", help="agree to what is planned, unseen")
    parser.add_argument("--minutes", type=float, default=45, help="longest wait in steps 5 and 6")
    parser.add_argument("--every-seconds", type=float, default=15, help="how often to look")
    parser.add_argument(
        "--no-smoke", dest="smoke", action="store_false", help="leave out step 6: it wakes a GPU"
    )
    options = parser.parse_args()
    environment = read_environment(options.environment)
    tool = find_image_tool()
    faults = find_faults(environment, options.base_image)
    if tool is None:
        faults.append("no image tool: neither docker nor podman is here and answers to `info`")
    if tool is None or faults:
        for fault in faults:
            print(f"deploy: {fault}", file=sys.stderr)
        print("deploy: nothing was touched", file=sys.stderr)
        return 2
    try:
        deploy(tool, environment, options)
    except FailedError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
