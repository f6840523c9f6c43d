"""The one reader of queue messages: any text in; requests, an ignore or a rejection out."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from poller.rules.identity import (
    ExternalId,
    Source,
    parse_attribute_id,
    parse_explicit_id,
    parse_key_id,
)

MAX_KEY_BYTES = 1024
# Wider than today's rule, because old buckets have capitals and underscores; an ARN is no name.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MAX_ENVELOPES = 3
_MAX_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """One object to analyse."""

    bucket: str
    key: str
    external_id: ExternalId | None


@dataclass(frozen=True, slots=True)
class Requests:
    """The message asks for these videos; other records in it were `ignored` or `rejected`."""

    videos: tuple[VideoRequest, ...]
    ignored: int = 0
    rejected: tuple["Reject", ...] = ()


@dataclass(frozen=True, slots=True)
class Ignore:
    """The message asks for nothing; delete it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The message cannot be understood or must not be obeyed; to the DLQ with it."""

    reason: str
    detail: str


class _RejectedError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reject = Reject(reason, detail)


def parse_message(
    body: str, attributes: Mapping[str, str], allowed_buckets: tuple[str, ...] = ()
) -> Requests | Ignore | Reject:
    """Read one message.

    Args:
        body: the body as SQS delivered it.
        attributes: the string values of its message attributes.
        allowed_buckets: buckets to accept; empty accepts every bucket.
    """
    try:
        parsed = _parse_document(_load(body), attributes, _MAX_ENVELOPES)
    except _RejectedError as error:
        return error.reject
    if isinstance(parsed, Requests):
        parsed = _only_allowed(parsed, allowed_buckets)
        if not parsed.videos:
            return parsed.rejected[0]
    return parsed


def _only_allowed(parsed: Requests, buckets: tuple[str, ...]) -> Requests:
    refused = [video for video in parsed.videos if buckets and video.bucket not in buckets]
    rejected = tuple(
        Reject("bucket_not_allowed", f"bucket {video.bucket!r} is not in ALLOWED_BUCKETS")
        for video in refused
    )
    kept = tuple(video for video in parsed.videos if video not in refused)
    return Requests(kept, parsed.ignored, parsed.rejected + rejected)


def _load(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _RejectedError("not_json", f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _RejectedError("unknown_shape", "the body is JSON, but not an object")
    return document


def _parse_document(
    document: dict[str, Any], attributes: Mapping[str, str], envelopes: int
) -> Requests | Ignore:
    if document.get("Event") == "s3:TestEvent":
        return Ignore("s3_test_event")
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        if envelopes == 0:
            raise _RejectedError("unknown_shape", "too many SNS envelopes around the message")
        inner = {**_sns_attributes(document), **attributes}
        return _parse_document(_load(document["Message"]), inner, envelopes - 1)
    if isinstance(document.get("Records"), list):
        return _parse_records(document["Records"], attributes)
    if "detail-type" in document:
        return _parse_eventbridge(document, attributes)
    if "eventType" in document:
        return _parse_application(document, attributes)
    for bucket, key in (("bucket", "key"), ("s3_bucket", "s3_key")):
        if bucket in document or key in document:
            return Requests(
                (_video(document.get(bucket), document.get(key), document, attributes),)
            )
    raise _RejectedError("unknown_shape", "the body has none of the shapes that announce a video")


def _parse_records(records: list[Any], attributes: Mapping[str, str]) -> Requests | Ignore:
    if len(records) > _MAX_RECORDS:
        raise _RejectedError("unknown_shape", f"more than {_MAX_RECORDS} records in one message")
    videos: dict[tuple[str, str], VideoRequest] = {}
    rejected: list[Reject] = []
    ignored = 0
    for record in records:
        event = record.get("eventName") if isinstance(record, dict) else None
        if not isinstance(event, str):
            raise _RejectedError("unknown_shape", "a record without an eventName")
        if not event.removeprefix("s3:").startswith("ObjectCreated:"):
            ignored += 1
            continue
        bucket, key = _s3_part(record)
        key = unquote_plus(key) if isinstance(key, str) else key
        try:
            video = _video(bucket, key, {}, attributes)
        except _RejectedError as error:
            rejected.append(error.reject)
        else:
            videos[video.bucket, video.key] = video
    if videos or rejected:
        return Requests(tuple(videos.values()), ignored, tuple(rejected))
    return Ignore("other_event")


def _s3_part(record: dict[str, Any]) -> tuple[object, object]:
    s3 = record.get("s3")
    bucket = s3.get("bucket") if isinstance(s3, dict) else None
    item = s3.get("object") if isinstance(s3, dict) else None
    return (
        bucket.get("name") if isinstance(bucket, dict) else None,
        item.get("key") if isinstance(item, dict) else None,
    )


def _parse_eventbridge(
    document: dict[str, Any], attributes: Mapping[str, str]
) -> Requests | Ignore:
    if document["detail-type"] != "Object Created":
        return Ignore("other_event")
    bucket, key = _s3_part({"s3": document.get("detail")})
    return Requests((_video(bucket, key, {}, attributes),))


def _parse_application(document: dict[str, Any], attributes: Mapping[str, str]) -> Requests:
    if document["eventType"] != "video-uploaded":
        raise _RejectedError("unknown_shape", "`eventType` is not `video-uploaded`")
    s3 = document.get("s3")
    if not isinstance(s3, dict):
        raise _RejectedError("missing_key", "`s3` with `bucket` and `key` is missing")
    return Requests((_video(s3.get("bucket"), s3.get("key"), document, attributes),))


def _video(
    bucket: object, key: object, document: dict[str, Any], attributes: Mapping[str, str]
) -> VideoRequest:
    if not isinstance(bucket, str) or not bucket:
        raise _RejectedError("missing_bucket", "the bucket is missing or no text")
    if not isinstance(key, str) or not key:
        raise _RejectedError("missing_key", "the object key is missing or no text")
    if not _BUCKET.fullmatch(bucket):
        raise _RejectedError("invalid_bucket", f"{bucket[:100]!r} cannot be a bucket's name")
    if not _is_key(key):
        raise _RejectedError(
            "invalid_key", f"not an object key: over {MAX_KEY_BYTES} bytes, NUL or broken UTF-8"
        )
    return VideoRequest(bucket, key, _external_id(key, document, attributes))


def _external_id(
    key: str, document: dict[str, Any], attributes: Mapping[str, str]
) -> ExternalId | None:
    video = document.get("video")
    try:
        stated = parse_explicit_id(video.get("id")) if isinstance(video, dict) else None
        if stated is not None:
            return ExternalId(stated, Source.BODY)
        return parse_attribute_id(attributes) or parse_key_id(key)
    except ValueError as error:
        raise _RejectedError("invalid_video_id", f"the video id {error}") from error


def _sns_attributes(document: dict[str, Any]) -> dict[str, str]:
    attributes = document.get("MessageAttributes")
    if not isinstance(attributes, dict):
        return {}
    return {
        name: value["Value"]
        for name, value in attributes.items()
        if isinstance(value, dict) and isinstance(value.get("Value"), str)
    }


def _is_key(text: str) -> bool:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return False
    return len(encoded) <= MAX_KEY_BYTES and "\x00" not in text
