"""`deploy/ecs/deploy.py`: what it refuses before anything is touched, and in which order it works.

Git, the AWS CLI, Terraform and the AWS of the emulator are real. Docker is a stand-in that writes
down what it was asked to do, runs what Python is to run, and pushes a made-up image to the
emulator's repository.
"""

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).parents[2]
ACCOUNT = "123456789012"
"""That of every credential that the emulator takes."""

DOCKER = """#!/usr/bin/env bash
echo "docker $*" | head -n 1 >>"$LOG"
repository() { sed 's/:[0-9a-f]\\{40\\}$//' <<<"$1"; }
case $1 in
  info) exit "${DOCKER_ABSENT:-0}" ;;
  run)
    if [[ $* == *entrypoint* ]]; then
      "$PYTHON" -c "${@: -1}" || exit
      # The emulator takes the policy "TLS only" for "nobody".
      aws s3api delete-bucket-policy --region eu-central-1 --bucket "$BUCKET"
    fi ;;
  login) cat >/dev/null ;;
  push)
    name=$(repository "$2")
    aws ecr put-image --region eu-central-1 --repository-name "${name#*/}" \\
      --image-tag "${2##*:}" --image-manifest "{\\"schemaVersion\\": 2, \\"for\\": \\"$2\\"}" \\
      --image-manifest-media-type application/vnd.oci.image.manifest.v1+json \\
      --query image.imageId.imageDigest --output text >"$LOG.digest" ;;
  inspect) echo "[\\"$(repository "${@: -1}")@$(cat "$LOG.digest")\\"]" ;;
esac
"""
TRIPWIRE = """#!/usr/bin/env bash
echo "terraform $2" >>"$LOG"
exit 1
"""

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("aws") and shutil.which("git")), reason="no git, or no AWS CLI"
    ),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator; only the last test leaves something in it."""
    with (
        (tmp_path_factory.mktemp("emulator") / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, Path(__file__).with_name("emulator.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as emulator,
    ):
        assert emulator.stdout
        yield f"http://127.0.0.1:{int(emulator.stdout.readline())}"
        # Leaving closes its standard input, and waits.


class Checkout:
    """A repository of its own, with dev as an owner has it who is about to deploy."""

    def __init__(self, directory: Path, endpoint: str, *, programs: Mapping[str, str]) -> None:
        self.root = directory / "checkout"
        self.dev = self.root / "terraform" / "environments" / "dev"
        self._log = directory / "log"
        for name in ("deploy/ecs", "terraform"):
            ignored = shutil.ignore_patterns(".terraform", "__pycache__", "*.tfstate*", "*.tfvars")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        for name in ("Dockerfile.gpu", "pyproject.toml", ".gitignore"):
            shutil.copy(ROOT / name, self.root / name)
        self.git("init", "--quiet")
        self.commit()
        (self.dev / "terraform.tfvars").write_text(
            f'account_id = "{ACCOUNT}"\nregion = "eu-central-1"\n', "utf-8"
        )
        (self.dev / ".terraform").mkdir()
        tools = directory / "tools"
        tools.mkdir()
        for name, text in programs.items():
            (tools / name).write_text(text, "utf-8")
            (tools / name).chmod(0o755)
        self.environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "TF_VAR_"))},
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_SECRET_ACCESS_KEY": "test",
            "CHECKPOINT_DISABLE": "1",
            "LOG": str(self._log),
            "PYTHON": sys.executable,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "TF_CLI_CONFIG_FILE": os.devnull,
        }

    def git(self, *arguments: str) -> str:
        """Run git there."""
        names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *names, *arguments]
        answer = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    def commit(self) -> None:
        """Commit everything that is not ignored."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=all")

    def deploy(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the checkout's own script."""
        return subprocess.run(
            [sys.executable, "deploy/ecs/deploy.py", *arguments],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        """What the stand-ins were asked to do since the last time."""
        lines = self._log.read_text("utf-8").splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path, endpoint: str) -> Checkout:
    """Ready to be deployed, with a Terraform that tells when it is called."""
    return Checkout(tmp_path, endpoint, programs={"docker": DOCKER, "terraform": TRIPWIRE})


def dirty(checkout: Checkout) -> None:
    """Somebody has changed a file."""
    with (checkout.root / "Dockerfile.gpu").open("a", encoding="utf-8") as file:
        file.write("# For a test.\n")


def untracked(checkout: Checkout) -> None:
    """Somebody has forgotten to add a file."""
    (checkout.root / "forgotten.py").write_text("", "utf-8")


def staged(checkout: Checkout) -> None:
    """Somebody has added and not committed."""
    untracked(checkout)
    checkout.git("add", "forgotten.py")


def no_repository(checkout: Checkout) -> None:
    """The files were copied from somewhere."""
    shutil.rmtree(checkout.root / ".git")
    checkout.environment["GIT_CEILING_DIRECTORIES"] = str(checkout.root.parent)


def other_account(checkout: Checkout) -> None:
    """The environment is in another account than the credentials."""
    (checkout.dev / "terraform.tfvars").write_text(
        'account_id = "210987654321"\nregion = "eu-central-1"\n', "utf-8"
    )


def no_credentials(checkout: Checkout) -> None:
    """Nobody is logged in."""
    del checkout.environment["AWS_ACCESS_KEY_ID"]
    del checkout.environment["AWS_SECRET_ACCESS_KEY"]
    checkout.environment["HOME"] = str(checkout.root)


def no_account(checkout: Checkout) -> None:
    """Nobody has written down whose environment it is."""
    (checkout.dev / "terraform.tfvars").unlink()


def not_initialised(checkout: Checkout) -> None:
    """Terraform has never run there."""
    (checkout.dev / ".terraform").rmdir()


def no_docker(checkout: Checkout) -> None:
    """The command is there, and no daemon."""
    checkout.environment["DOCKER_ABSENT"] = "1"


REFUSALS = {
    dirty: "the tree is dirty, commit first: M Dockerfile.gpu",
    untracked: "the tree is dirty, commit first: ?? forgotten.py",
    staged: "the tree is dirty, commit first: A  forgotten.py",
    no_repository: "not a git repository",
    other_account: f"credentials of account {ACCOUNT}; dev is in 210987654321",
    no_credentials: "`aws sts get-caller-identity` failed",
    no_account: "account_id is not stated: write it to terraform/environments/dev/terraform.tfvars",
    not_initialised: "terraform/environments/dev is not initialised",
    no_docker: "no image tool",
}
"""What is wrong, and what is said about it."""


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: fault.__name__)
def test_a_fault_is_refused_before_anything_is_touched(fault: Any, checkout: Checkout) -> None:
    """Neither Terraform nor the image tool does anything, and the sentence says what is wrong."""
    fault(checkout)

    answer = checkout.deploy("dev", "--yes")

    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert REFUSALS[fault] in answer.stderr
    assert answer.stderr.endswith("deploy: nothing was touched\n")
    assert checkout.called() in ([], ["docker info"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["staging"], "no environment 'staging': there are dev, prod"),
        (["../environments/dev"], "no environment '../environments/dev'"),
        (["dev", "--base-image=nvidia/cuda:13"], "a tag can move; name it as TAG@sha256:…"),
        (["dev", "--base-image="], "a tag can move"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], said: str, checkout: Checkout
) -> None:
    """An environment that is not there, and a base that is another one tomorrow."""
    answer = checkout.deploy(*arguments, "--yes")

    assert answer.returncode == 2
    assert said in answer.stderr
    assert checkout.called() == ["docker info"]


def test_all_faults_are_said_at_once(checkout: Checkout) -> None:
    """Nobody has to come back for the next one."""
    for fault in (dirty, other_account, not_initialised, no_docker):
        fault(checkout)

    answer = checkout.deploy("dev", "--yes")

    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 5


def test_what_git_ignores_is_no_change(checkout: Checkout) -> None:
    """The owner's variables and Terraform's own files are there; the first thing is Terraform."""
    answer = checkout.deploy("dev", "--yes")

    assert answer.returncode == 1
    assert checkout.called() == ["docker info", "terraform init"]


def aws(service: str, endpoint: str) -> Any:
    """Speak to the emulator."""
    session = boto3.Session("test", "test", region_name="eu-central-1")
    return session.client(service, endpoint_url=endpoint)


OVERRIDE = """
terraform {
  backend "local" {}
}

provider "aws" {
  skip_metadata_api_check = true
  s3_use_path_style       = true
}
"""


FORGETFUL = """
resource "aws_db_instance" "this" {
  lifecycle {
    ignore_changes = [performance_insights_enabled]
  }
}
"""
"""The emulator forgets it, and to set it again takes the provider more than a minute."""


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")
def test_a_commit_is_deployed_once_and_again(tmp_path: Path, endpoint: str) -> None:
    """The first time makes all, in order; a second time builds nothing, and proves the service."""
    checkout = Checkout(tmp_path, endpoint, programs={"docker": DOCKER})
    (checkout.dev / "emulator_override.tf").write_text(OVERRIDE, "utf-8")
    database = checkout.root / "terraform" / "modules" / "database"
    (database / "emulator_override.tf").write_text(FORGETFUL, "utf-8")
    checkout.commit()
    mirror = subprocess.run(
        [ROOT / "terraform" / "check", "mirror"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if mirror:
        checkout.environment["TF_CLI_ARGS_init"] = f"-plugin-dir={mirror}"
    ecs = aws("ecs", endpoint)

    unasked = checkout.deploy("dev", "--no-smoke")

    assert unasked.returncode == 1
    assert "Make the repository? Not agreed to" in unasked.stderr
    assert aws("ecr", endpoint).describe_repositories()["repositories"] == []
    checkout.called()

    first = checkout.deploy("dev", "--yes", "--no-smoke", "--minutes=20", "--every-seconds=1")

    assert first.returncode == 0, first.stdout[-2000:] + first.stderr
    verbs = [line.split()[1] for line in checkout.called()]
    assert verbs == ["info", "login", "build", "run", "push", "inspect"]
    named = {"cluster": "video-poller-dev", "services": ["video-poller-dev"]}
    [service] = ecs.describe_services(**named)["services"]
    definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])
    [pushed] = aws("ecr", endpoint).list_images(repositoryName="video-poller-dev")["imageIds"]
    assert pushed["imageTag"] == checkout.git("rev-parse", "HEAD")
    for container in definition["taskDefinition"]["containerDefinitions"]:
        assert container["image"].endswith(f"/video-poller-dev@{pushed['imageDigest']}")

    again = deploy_with_a_service(checkout, endpoint)

    assert again.returncode == 0, again.stdout[-2000:] + again.stderr
    assert [line.split()[1] for line in checkout.called()] == ["info", "login", "run"]


def deploy_with_a_service(checkout: Checkout, endpoint: str) -> "subprocess.CompletedProcess[str]":
    """Deploy, and log that the video that it uploads was analysed, as the service would."""
    stack = json.loads(
        subprocess.run(
            [str(shutil.which("terraform")), "output", "-json"],
            cwd=checkout.dev,
            env=checkout.environment,
            capture_output=True,
            check=True,
        ).stdout
    )["stack"]["value"]
    s3, logs = aws("s3", endpoint), aws("logs", endpoint)
    checkout.environment["BUCKET"] = bucket = stack["raw_bucket"]
    known = set()
    with ThreadPoolExecutor(1) as pool:
        options = ("--yes", "--minutes=20", "--every-seconds=0.5")
        deploying = pool.submit(checkout.deploy, "dev", *options)
        while not deploying.done():
            wait([deploying], timeout=0.5)
            for found in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
                if found["Key"] not in known:
                    write_log(logs, stack["log_group"], finished(found["Key"], "stored", "ack"))
                    known.add(found["Key"])
    assert len(known) == 1
    return deploying.result()


def finished(key: str, outcome: str, verdict: str) -> dict[str, Any]:
    """The service's line about a message that it has settled."""
    said = {"outcomes": [outcome], "verdict": verdict, "reason": "not_a_video"}
    return {"event": "video.finished", "key": key} | said


def write_log(logs: Any, group: str, event: Mapping[str, Any]) -> None:
    """Log it as a task of its own does."""
    stream = f"poller/poller/{secrets.token_hex(4)}"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    logs.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": int(time.time() * 1000), "message": json.dumps(event)}],
    )


NEW, OLD = "arn:task-definition/poller:8", "arn:task-definition/poller:7"


def describe(
    *deployments: tuple[str, str], running: int = 2, state: str = "COMPLETED"
) -> dict[str, Any]:
    """What ECS says of a service."""
    listed = [
        {
            "status": status,
            "taskDefinition": definition,
            "rolloutState": state,
            "runningCount": running,
        }
        for status, definition in deployments
    ]
    return {"deployments": listed, "runningCount": running, "desiredCount": 2}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "deploy" / "ecs"))
    spec = importlib.util.spec_from_file_location("deploy", ROOT / "deploy" / "ecs" / "deploy.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """The AWS CLI of this process speaks to the emulator."""
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (describe(("PRIMARY", NEW)), True),
        (describe(("PRIMARY", NEW), running=1), False),
        (describe(("PRIMARY", NEW), state="IN_PROGRESS"), False),
        (describe(("PRIMARY", NEW), ("ACTIVE", OLD)), False),
    ],
)
def test_steady_is_the_new_version_alone(
    service: dict[str, Any], expected: object, script: Any
) -> None:
    """As many tasks as there should be, and none of the version before."""
    assert script.is_steady(service, NEW) is expected


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (describe(("PRIMARY", OLD)), f"ECS went back to {OLD}"),
        (describe(("PRIMARY", NEW), state="FAILED"), f"ECS gave {NEW} up"),
    ],
)
def test_a_roll_back_is_no_success(service: dict[str, Any], said: str, script: Any) -> None:
    """ECS is steady again, or nothing took its place: the deployment has failed."""
    with pytest.raises(script.FailedError, match=said):
        script.is_steady(service, NEW)


def test_how_far_it_is(script: Any) -> None:
    """Tasks that never come are told from a version that never works."""
    service = describe(("ACTIVE", OLD), ("PRIMARY", NEW), running=1)

    assert script.tell_tasks(service) == "the new version runs in 1 of 2 wanted tasks"


@pytest.mark.usefixtures("emulated")
def test_tasks_of_other_versions_lose_their_protection(script: Any, endpoint: str) -> None:
    """However many there are; those of the new version keep it."""
    ecs, cluster = aws("ecs", endpoint), f"cluster-{secrets.token_hex(4)}"
    ecs.create_cluster(clusterName=cluster)
    container = {"name": "poller", "image": "poller", "memory": 64}
    made = {
        "family": cluster,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [container],
    }
    old, new = (
        ecs.register_task_definition(**made)["taskDefinition"]["taskDefinitionArn"]
        for _ in range(2)
    )
    subnet = aws("ec2", endpoint).describe_subnets()["Subnets"][0]["SubnetId"]
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": []}}
    tasks = {
        definition: [
            ecs.run_task(
                cluster=cluster,
                taskDefinition=definition,
                launchType="FARGATE",
                networkConfiguration=network,
            )["tasks"][0]["taskArn"]
            for _ in range(count)
        ]
        for definition, count in ((old, 12), (new, 2))
    }
    every = [*tasks[old], *tasks[new]]
    ecs.update_task_protection(cluster=cluster, tasks=every, protectionEnabled=True)
    environment = script.Environment("dev", ROOT, ACCOUNT, "eu-central-1")
    stack = {"cluster_name": cluster, "service_name": "poller", "task_definition": new}

    released = script.release(environment, stack)

    told = ecs.get_task_protection(cluster=cluster, tasks=every)["protectedTasks"]
    assert sorted(released) == sorted(tasks[old])
    assert {t["taskArn"] for t in told if t["protectionEnabled"]} == set(tasks[new])


@pytest.mark.usefixtures("emulated")
def test_a_video_is_analysed_when_the_log_says_so(script: Any, endpoint: str) -> None:
    """Not before, not for another video; and one that fails fails the deployment."""
    group = f"group-{secrets.token_hex(4)}"
    logs = aws("logs", endpoint)
    logs.create_log_group(logGroupName=group)
    environment = script.Environment("dev", ROOT, ACCOUNT, "eu-central-1")

    def is_analysed(key: str) -> object:
        return script.is_analysed(environment, {"log_group": group}, key, int(time.time()) - 600)

    write_log(logs, group, {"event": "video.claimed", "key": "videos/a.mp4"})
    write_log(logs, group, finished("videos/b.mp4", "stored", "ack"))
    assert is_analysed("videos/a.mp4") is False
    assert is_analysed("videos/b.mp4") is True
    write_log(logs, group, finished("videos/a.mp4", "failed", "deadletter"))
    with pytest.raises(script.FailedError, match=r"could not analyse videos/a\.mp4: not_a_video"):
        is_analysed("videos/a.mp4")
