"""Builders of messages and requests, with defaults for what a test does not care about."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from poller.rules.identity import ExternalId, Source
from poller.rules.message import VideoRequest
from poller.sqs import Message

DATED_KEY = "videos/2025/12/29/6f1c7a52-0b0e-4f0c-9c1b-1a7c1f0e2d11_20250526_193726.mp4"


def make_s3_record(bucket: str = "b", key: str = "k.mp4", event: str = "ObjectCreated:Put") -> Any:
    """One record of an S3 notification, its key encoded as S3 encodes it."""
    return {
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}},
    }


def make_s3_body(*records: Any) -> str:
    """An S3 notification."""
    return json.dumps({"Records": list(records) or [make_s3_record()]})


def make_application_body(
    bucket: str = "b", key: str = "k.mp4", video_id: object = None, **extra: object
) -> str:
    """What the application sends after an upload."""
    body: dict[str, object] = {
        "eventType": "video-uploaded",
        "s3": {"bucket": bucket, "key": key},
        **extra,
    }
    if video_id is not None:
        body["video"] = {"id": video_id}
    return json.dumps(body)


def make_sns_body(inner: str, attributes: dict[str, str] | None = None) -> str:
    """An SNS envelope around a body."""
    return json.dumps(
        {
            "Type": "Notification",
            "Message": inner,
            "MessageAttributes": {
                name: {"Type": "String", "Value": value}
                for name, value in (attributes or {}).items()
            },
        }
    )


def make_eventbridge_body(
    bucket: str = "b", key: str = "k.mp4", detail_type: str = "Object Created"
) -> str:
    """An EventBridge event of S3; its key is not encoded."""
    return json.dumps(
        {
            "detail-type": detail_type,
            "source": "aws.s3",
            "detail": {"bucket": {"name": bucket}, "object": {"key": key}},
        }
    )


def make_request(
    bucket: str = "b",
    key: str = "k.mp4",
    video_id: str | None = None,
    source: Source = Source.BODY,
) -> VideoRequest:
    """A request as the parser makes it."""
    return VideoRequest(bucket, key, None if video_id is None else ExternalId(video_id, source))


def make_message(
    body: str = "{}", *, message_id: str = "m", receipt: str = "r", receive_count: int = 1
) -> Message:
    """A delivery that was received now."""
    return Message(message_id, receipt, body, {}, receive_count, datetime.now(UTC))
