"""Both environments, applied to an emulator of AWS: what is made, made again, and unmade."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.validate import ParamValidator
from tests.infra.applied import DIGEST, TERRAFORM, Applied, open_buckets

pytestmark = [
    pytest.mark.skipif(not TERRAFORM, reason="terraform is not installed"),
    pytest.mark.timeout(900),
    pytest.mark.parametrize("applied", ["dev", "prod"], indirect=True),
]

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


def test_a_second_plan_is_empty(applied: Applied) -> None:
    """But for what the emulator forgets, one apply makes all of it."""
    assert applied.changes == FORGOTTEN


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


def test_the_schedule_runs_the_registered_task(applied: Applied) -> None:
    """The scheduler itself starts `poller reconcile` on Fargate, with a role made for that."""
    schedule = applied.client("scheduler").get_schedule(
        Name=f"{applied.stack['service_name']}-reconcile"
    )

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
