"""How a new version takes the place of the one before."""

from collections.abc import Mapping
from typing import Any

from environment import Environment, FailedError, aws

_AT_ONCE = 10
"""Tasks whose protection one call may change."""


def describe(environment: Environment, stack: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ECS says of the service."""
    named = ("--cluster", stack["cluster_name"], "--services", stack["service_name"])
    service: Mapping[str, Any] = aws(environment, "ecs", "describe-services", *named)["services"][0]
    return service


def is_steady(service: Mapping[str, Any], task_definition: str) -> bool:
    """Tell whether ECS runs this version, as often as it should, and no other.

    Raises:
        FailedError: it has gone back to another version, or given this one up.
    """
    primary = _primary(service)
    reason = primary.get("rolloutStateReason", "no reason given")
    if primary["taskDefinition"] != task_definition:
        raise FailedError(f"ECS went back to {primary['taskDefinition']}: {reason}")
    if primary.get("rolloutState") == "FAILED":
        raise FailedError(f"ECS gave {task_definition} up: {reason}")
    return (
        len(service["deployments"]) == 1
        and primary.get("rolloutState", "COMPLETED") == "COMPLETED"
        and service["runningCount"] == service["desiredCount"]
    )


def tell_tasks(service: Mapping[str, Any]) -> str:
    """How far it is."""
    running, wanted = _primary(service)["runningCount"], service["desiredCount"]
    return f"the new version runs in {running} of {wanted} wanted tasks"


def _primary(service: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(d for d in service["deployments"] if d["status"] == "PRIMARY")


def release(environment: Environment, stack: Mapping[str, Any]) -> list[str]:
    """Take the protection of the tasks of other versions, so that ECS stops them; returns these.

    ECS replaces no task that protects itself, and one that always has work always does. Stopped,
    it gives its videos back, and they go on from their last checkpoints.
    """
    cluster = ("--cluster", stack["cluster_name"])
    running = aws(
        environment, "ecs", "list-tasks", *cluster, "--service-name", stack["service_name"]
    )
    arns, released = running["taskArns"], list[str]()
    for start in range(0, len(arns), _AT_ONCE):
        some = arns[start : start + _AT_ONCE]
        tasks = aws(environment, "ecs", "describe-tasks", *cluster, "--tasks", *some)["tasks"]
        old = [t["taskArn"] for t in tasks if t["taskDefinitionArn"] != stack["task_definition"]]
        if old:
            change = (
                "update-task-protection",
                *cluster,
                "--no-protection-enabled",
                "--tasks",
                *old,
            )
            aws(environment, "ecs", *change)
            released += old
    return released
