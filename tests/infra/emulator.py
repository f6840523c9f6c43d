"""An AWS to apply Terraform to: moto's server, with the calls that Terraform needs and it lacks.

Run as a process of its own. It prints its port, and ends when its standard input does.
"""

import json
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from moto.applicationautoscaling import responses as scaling
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import security_groups
from moto.ecs import responses as ecs
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.sqs import models as sqs
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_tags: dict[str, dict[str, str]] = {}
_protected: dict[str, bool] = {}


class TaggedScaling(scaling.ApplicationAutoScalingResponse):
    """Scalable targets that keep their tags."""

    def register_scalable_target(self) -> str:
        """Keep the tags that come with it."""
        answer = super().register_scalable_target()
        arn = json.loads(answer)["ScalableTargetARN"]
        _tags.setdefault(arn, {}).update(self._get_param("Tags") or {})
        return answer

    def list_tags_for_resource(self) -> str:
        """Say which there are."""
        return json.dumps({"Tags": _tags.get(self._get_param("ResourceARN"), {})})


class PolicedQueue(sqs.Queue):
    """A queue that says whose dead-letter queue it is, and keeps its policy when that is set."""

    __module__ = sqs.__name__  # moto takes the service's name from it
    BASE_ATTRIBUTES = [*sqs.Queue.BASE_ATTRIBUTES, "RedriveAllowPolicy"]  # noqa: RUF012 - as theirs
    redrive_allow_policy: str | None = None

    def _set_attributes(self, attributes: dict[str, Any], now: float | None = None) -> None:
        kept = {"Policy": getattr(self, "policy", None)} | attributes
        super()._set_attributes(kept, now)
        # SQS does not list what is empty, and Terraform waits for that when it takes one away.
        self.redrive_allow_policy = self.redrive_allow_policy or None


class ProtectedTasks(ecs.EC2ContainerServiceResponse):
    """Tasks that keep whether they are protected from scale-in."""

    def update_task_protection(self) -> ActionResult:
        """Keep it."""
        cluster, asked = self._get_param("cluster"), self._get_param("protectionEnabled")
        known = {task.task_arn for task in self.ecs_backend.list_tasks(cluster)}
        _protected.update(dict.fromkeys(known.intersection(self._get_param("tasks")), asked))
        return self.get_task_protection()

    def get_task_protection(self) -> ActionResult:
        """Say which are."""
        tasks = self._get_param("tasks")
        told = [{"taskArn": a, "protectionEnabled": _protected.get(a, False)} for a in tasks]
        return ActionResult({"protectedTasks": told, "failures": []})


class UnknownRuleError(EC2ClientError):
    """What EC2 says of a rule that is not there (any more), so that revoking can be repeated."""

    def __init__(self) -> None:
        super().__init__("InvalidSecurityGroupRuleId.NotFound", "The rule does not exist")


class OneAtATime:
    """moto, with one request in it at a time.

    Terraform asks ten at once, and moto's models lock nothing: of two requests that revoke rules of
    one security group, say, each brings the other's back. What is asked of SQS is let in beside
    the others, because a poll waits inside moto.
    """

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request."""
        is_sqs = "/sqs/aws4_request" in environ.get("HTTP_AUTHORIZATION", "")
        with nullcontext() if is_sqs else self._lock:
            answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


def serve() -> None:
    """Answer until standard input ends."""
    # Otherwise there is no policy of AWS's own to attach to a role.
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    # moto finds them by these names.
    scaling.ApplicationAutoScalingResponse = TaggedScaling  # type: ignore[misc]
    ecs.EC2ContainerServiceResponse = ProtectedTasks  # type: ignore[misc]
    sqs.Queue = PolicedQueue  # type: ignore[misc]
    security_groups.InvalidPermissionNotFoundError = UnknownRuleError  # type: ignore[assignment,attr-defined]
    server = make_server(
        "127.0.0.1", 0, OneAtATime(), threaded=True, request_handler=MotoRequestHandler
    )
    Thread(target=server.serve_forever, name="emulator", daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    serve()
