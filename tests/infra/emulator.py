"""An AWS to apply Terraform to: moto's server, with the calls that Terraform needs and it lacks.

Run as a process of its own. It prints its port, and ends when its standard input does.
"""

import json
import os
import sys
from typing import Any

from moto.applicationautoscaling import responses as scaling
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import security_groups
from moto.server import ThreadedMotoServer
from moto.sqs import models as sqs

_tags: dict[str, dict[str, str]] = {}


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


class UnknownRuleError(EC2ClientError):
    """What EC2 says of a rule that is not there (any more), so that revoking can be repeated."""

    def __init__(self) -> None:
        super().__init__("InvalidSecurityGroupRuleId.NotFound", "The rule does not exist")


def serve() -> None:
    """Answer until standard input ends."""
    # Otherwise there is no policy of AWS's own to attach to a role.
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    # moto finds them by these names.
    scaling.ApplicationAutoScalingResponse = TaggedScaling  # type: ignore[misc]
    sqs.Queue = PolicedQueue  # type: ignore[misc]
    security_groups.InvalidPermissionNotFoundError = UnknownRuleError  # type: ignore[assignment,attr-defined]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    serve()
