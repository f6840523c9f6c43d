"""Both environments, applied to an emulator of AWS, and the service on one of them.

In one file, because a file's tests share a process, and so what was applied.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import asyncpg
import pytest
from botocore.validate import ParamValidator
from tests.clips import make_clip
from tests.commands import run_poller
from tests.infra.applied import DIGEST, TERRAFORM, Applied, open_buckets
from tests.running import running

pytestmark = [
    pytest.mark.skipif(not TERRAFORM, reason="terraform is not installed"),
    pytest.mark.timeout(1800),
]
in_both = pytest.mark.parametrize("applied", ["dev", "prod"], indirect=True)

FORGOTTEN = {
    # The launch template's own tags, which it gives back as if they were for instances.
    "module.cluster.aws_launch_template.this": {
        "default_version",
        "latest_version",
        "tag_specifications",
    },
    "module.database.aws_db_instance.this[0]": {"performance_insights_enabled"},
    # Parameters that it has no table of.
    "module.database.aws_db_parameter_group.this[0]": {"parameter"},
    'module.database.aws_vpc_security_group_ingress_rule.clients["tasks"]': {"description"},
    # Written with other spaces.
    "module.intake.aws_sqs_queue.uploads": {"redrive_policy"},
    "module.service.aws_ecs_service.this": {
        "availability_zone_rebalancing",
        "capacity_provider_strategy",
        "deployment_controller",
        "enable_ecs_managed_tags",
        "health_check_grace_period_seconds",
        "launch_type",
        "service_registries",
    },
}
"""What the emulator does not keep, so that a second plan would set it again.

`terraform/tests` holds each of these in terms of the plan.
"""
KEY = "videos/84/holiday.MP4"


@in_both
def test_a_second_plan_is_empty(applied: Applied) -> None:
    """But for what the emulator forgets, one apply makes all of it."""
    assert applied.changes == FORGOTTEN


@in_both
@pytest.mark.parametrize("output", ["task_definition", "reconcile_task_definition"])
def test_what_is_registered_is_what_the_api_takes(applied: Applied, output: str) -> None:
    """A task definition, with values that its enumerations know, and the image by digest."""
    ecs = applied.client("ecs")
    registered = ecs.describe_task_definition(taskDefinition=applied.stack[output])
    shape = ecs.meta.service_model.operation_model("RegisterTaskDefinition").input_shape
    wanted = {k: v for k, v in registered["taskDefinition"].items() if k in shape.members}

    report = ParamValidator().validate(wanted, shape)

    assert not report.has_errors(), report.generate_report()
    assert list(find_unknown(wanted, shape)) == []
    image = f"{applied.stack['repository_url']}@{DIGEST}"
    assert {c["image"] for c in wanted["containerDefinitions"]} == {image}


@in_both
def test_the_schedule_runs_the_registered_task(applied: Applied) -> None:
    """The scheduler itself starts `poller reconcile` on Fargate, with a role made for that."""
    name = f"{applied.stack['service_name']}-reconcile"
    schedule = applied.client("scheduler").get_schedule(Name=name, GroupName=name)

    target = schedule["Target"]
    assert schedule["State"] == "ENABLED"
    assert target["Arn"].endswith(f":cluster/{applied.stack['cluster_name']}")
    assert (
        target["EcsParameters"]["TaskDefinitionArn"] == applied.stack["reconcile_task_definition"]
    )
    assert target["EcsParameters"]["LaunchType"] == "FARGATE"
    role = applied.client("iam").get_role(RoleName=target["RoleArn"].rpartition("/")[2])
    (statement,) = role["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}


@in_both
@pytest.mark.skipif(not shutil.which("aws"), reason="no AWS CLI")
def test_an_operator_runs_a_command(applied: Applied) -> None:
    """The command that is told starts a task of its own in the service's network, with its role."""
    shown = applied.stack["run_command"].replace('"status"', '"redrive","--dry-run"')

    done = subprocess.run(
        ["sh", "-c", shown],  # noqa: S607 # as an operator would
        env={"PATH": os.environ["PATH"], **applied.aws},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (task,) = json.loads(done.stdout)["tasks"]
    assert task["taskDefinitionArn"] == applied.stack["reconcile_task_definition"]
    assert task["launchType"] == "FARGATE"
    (override,) = task["overrides"]["containerOverrides"]
    (name,) = applied.containers("reconcile_task_definition")
    assert override == {"name": name, "command": ["redrive", "--dry-run"]}
    details = {pair["name"]: pair["value"] for pair in task["attachments"][0]["details"]}
    service = applied.resources["module.service.aws_ecs_service.this"]["network_configuration"][0]
    assert details["subnetId"] in service["subnets"]


@in_both
def test_everything_has_the_tags(applied: Applied) -> None:
    """Whose it is can be seen at each thing that has tags."""
    tags = {
        "Application": "video-poller",
        "Environment": applied.name,
        "ManagedBy": "terraform",
    }

    tagged = {
        address: values["tags_all"] or {}
        for address, values in applied.resources.items()
        if "tags_all" in values
    }

    assert len(tagged) > 30
    assert [address for address, its in tagged.items() if not tags.items() <= its.items()] == []
    # A group of instances has its tags in another shape, and what it starts has the template's.
    group = applied.resources["module.cluster.aws_autoscaling_group.this"]
    template = applied.resources["module.cluster.aws_launch_template.this"]
    assert tags.items() <= {tag["key"]: tag["value"] for tag in group["tag"]}.items()
    for started in template["tag_specifications"]:
        assert tags.items() <= started["tags"].items()


@in_both
def test_each_zone_has_the_endpoints(applied: Applied) -> None:
    """An instance reaches AWS from its own zone, whichever is down."""
    private = {
        values["id"]
        for address, values in applied.resources.items()
        if ".aws_subnet.private" in address
    }

    endpoints = {
        address: set(values["subnet_ids"])
        for address, values in applied.resources.items()
        if ".aws_vpc_endpoint.interface" in address
    }

    assert len(private) == 2
    assert len(endpoints) == 9
    assert [address for address, subnets in endpoints.items() if subnets != private] == []


@pytest.mark.parametrize(
    ("applied", "numbers"),
    [
        ("dev", ("db.t4g.medium", False, 1, False, True, {True}, 2, 0, 15, {("UTC", 0)})),
        (
            "prod",
            ("db.m7g.large", True, 14, True, False, {False}, 20, 1, 30, {("UTC", 1), ("UTC", 0)}),
        ),
    ],
    indirect=["applied"],
)
def test_what_an_environment_is_for(applied: Applied, numbers: tuple[object, ...]) -> None:
    """One outlives mistakes and a zone; the other is gone without a trace."""
    database = applied.resources["module.database.aws_db_instance.this[0]"]
    group = applied.resources["module.cluster.aws_autoscaling_group.this"]
    instances = group["mixed_instances_policy"][0]["instances_distribution"][0]
    alarm = applied.resources['module.alarms.aws_cloudwatch_metric_alarm.this["capacity"]']
    buckets = [v for address, v in applied.resources.items() if ".aws_s3_bucket.this[" in address]
    scheduled = [
        v for a, v in applied.resources.items() if ".aws_appautoscaling_scheduled_action." in a
    ]

    assert (
        database["instance_class"],
        database["multi_az"],
        database["backup_retention_period"],
        database["deletion_protection"],
        database["skip_final_snapshot"],
        {bucket["force_destroy"] for bucket in buckets},
        group["max_size"],
        instances["on_demand_base_capacity"],
        alarm["evaluation_periods"],
        {(v["timezone"], int(v["scalable_target_action"][0]["min_capacity"])) for v in scheduled},
    ) == numbers


@in_both
def test_an_upload_is_announced(applied: Applied) -> None:
    """One under the prefix with a video's ending, in whatever case, and no other."""
    open_buckets(applied)
    bucket, queue = applied.client("s3"), applied.client("sqs")

    for key in ("videos/84/party.MOV", "videos/84/notes.txt", "thumbnails/84.mp4"):
        bucket.put_object(Bucket=applied.stack["raw_bucket"], Key=key, Body=b"0")

    keys = []
    while messages := queue.receive_message(
        QueueUrl=applied.stack["queue_url"], MaxNumberOfMessages=10, WaitTimeSeconds=0
    ).get("Messages"):
        for message in messages:
            records = json.loads(message["Body"]).get("Records", [])
            keys += [unquote_plus(record["s3"]["object"]["key"]) for record in records]
            queue.delete_message(
                QueueUrl=applied.stack["queue_url"], ReceiptHandle=message["ReceiptHandle"]
            )
    assert keys == ["videos/84/party.MOV"]


def environment_of(container: dict[str, Any], applied: Applied, work: Path) -> dict[str, str]:
    """What ECS would give the container, but for what is this machine's."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "POLLER_", "NVIDIA_"))
    }
    return {
        **inherited,
        **applied.aws,
        **{variable["name"]: variable["value"] for variable in container["environment"]},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "POLLER_DEVICE": "cpu",
        "POLLER_HTTP_PORT": "0",
        "POLLER_WORK_DIR": str(work),
    }


@pytest.mark.parametrize("applied", ["dev"], indirect=True)
async def test_an_upload_becomes_rows(
    applied: Applied, empty_database_url: str, tmp_path: Path
) -> None:
    """Bucket, notification, queue, secret and task definition are the applied ones.

    The containers are run as their tasks say: `migrate`, `run`, and what the schedule runs. The
    database is a Postgres that the applied secret leads to, for the emulator has none.
    """
    containers = applied.containers("task_definition")
    reconcile = applied.containers("reconcile_task_definition")["reconcile"]
    environment = environment_of(containers["poller"], applied, tmp_path)
    applied.client("secretsmanager").put_secret_value(
        SecretId=environment["POLLER_DATABASE_SECRET_ARN"], SecretString=empty_database_url
    )
    open_buckets(applied)
    clip = make_clip(tmp_path / "clip.mp4")

    migrated = run_poller(
        environment_of(containers["migrate"], applied, tmp_path), *containers["migrate"]["command"]
    )
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    assert containers["poller"]["command"] == ["run"]
    async with running(environment) as service:
        await service.logged("service.started", seconds=600)
        applied.client("s3").upload_file(str(clip), applied.stack["raw_bucket"], KEY)
        (line,) = await service.logged("video.finished", outcomes=("stored",), seconds=900)
        stopped = await service.stop(seconds=600)
    unwritten = tmp_path / "nothing"
    unwritten.mkdir()
    reconciled = run_poller(
        {
            **environment_of(reconcile, applied, unwritten),
            **dict.fromkeys(("HOME", "TMPDIR"), str(unwritten)),
        },
        *reconcile["command"],
    )

    assert stopped == 0
    assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
    assert list(unwritten.iterdir()) == []  # its task has nowhere to write to
    assert line["bucket"] == applied.stack["raw_bucket"]
    database = await asyncpg.connect(empty_database_url)
    try:
        videos = await database.fetch("SELECT object_key, external_id, state FROM latest_analyses")
        shots = await database.fetch("SELECT 1 FROM timeline WHERE event_type = 'shot'")
        vectors = await database.fetchval("SELECT count(*) FROM embeddings")
    finally:
        await database.close()
    assert [tuple(video) for video in videos] == [(KEY, "84", "done")]
    assert len(shots) == 1
    assert vectors >= 3
    counts = applied.client("sqs").get_queue_attributes(
        QueueUrl=applied.stack["queue_url"], AttributeNames=["All"]
    )["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"


@in_both
def test_what_nobody_settles_becomes_a_letter(applied: Applied) -> None:
    """After ten deliveries the applied redrive policy moves it to the applied DLQ."""
    sqs, deliveries = applied.client("sqs"), 0
    sqs.purge_queue(QueueUrl=applied.stack["queue_url"])  # S3 has tried it
    sqs.send_message(QueueUrl=applied.stack["queue_url"], MessageBody="nobody's")

    while sqs.receive_message(
        QueueUrl=applied.stack["queue_url"], VisibilityTimeout=0, WaitTimeSeconds=0
    ).get("Messages"):
        deliveries += 1

    (letter,) = sqs.receive_message(QueueUrl=applied.stack["dlq_url"], WaitTimeSeconds=0)[
        "Messages"
    ]
    assert deliveries == 10
    assert letter["Body"] == "nobody's"
    sqs.delete_message(QueueUrl=applied.stack["dlq_url"], ReceiptHandle=letter["ReceiptHandle"])


def find_unknown(value: Any, shape: Any) -> Iterator[str]:
    """Values that their enumeration does not have, which botocore itself passes on."""
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from find_unknown(part, shape.members[name])
    elif shape.type_name == "list":
        for part in value:
            yield from find_unknown(part, shape.member)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{shape.name}: {value}"
