"""Submitting videos as an application does: upload the file, then announce the object."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from poller.errors import PermanentError, SettingsError
from poller.rules.identity import parse_explicit_id
from poller.s3 import Objects
from poller.sqs import Queue


@dataclass(frozen=True, slots=True)
class Submission:
    """One thing to submit: a local file that is still to be uploaded, or an object that exists."""

    name: str
    path: Path | None
    bucket: str
    key: str


def plan_submissions(arguments: Sequence[str], raw_bucket: str | None) -> list[Submission]:
    """Decide where each argument of `poller submit` goes, before anything is uploaded.

    Raises:
        SettingsError: with one line for each argument that cannot be submitted.
    """
    sources: list[Submission] = []
    lines: list[str] = []
    for argument in arguments:
        try:
            sources.append(_plan(argument, raw_bucket))
        except ValueError as error:
            lines.append(str(error))
    if lines:
        raise SettingsError(list(dict.fromkeys(lines)))
    return sources


def make_key(name: str, day: datetime, token: UUID) -> str:
    """The key of an upload: `videos/{yyyy}/{mm}/{dd}/{uuid}_{name}`."""
    return f"videos/{day:%Y/%m/%d}/{token}_{name}"


def make_announcement(bucket: str, key: str, video_id: str | None) -> str:
    """The message that an application sends after an upload, as JSON."""
    message: dict[str, object] = {
        "eventType": "video-uploaded",
        "s3": {"bucket": bucket, "key": key},
    }
    if video_id is not None:
        message["video"] = {"id": int(video_id) if _is_plain_number(video_id) else video_id}
    return json.dumps(message)


async def submit(
    source: Submission,
    objects: Objects,
    queue: Queue,
    *,
    video_id: str | None,
    on_bytes: Callable[[int], None],
) -> None:
    """Upload the file, or check that the object is there, and announce it.

    Raises:
        SettingsError: there is no bucket to upload to.
        PermanentError: `object_missing`, `object_forbidden`.
        UnavailableError: S3 or SQS is away.
    """
    if source.path is None:
        await objects.head(source.bucket, source.key)
    else:
        await _upload(source.path, source, objects, on_bytes)
    await queue.send(make_announcement(source.bucket, source.key, video_id))


def check_video_id(video_id: str | None) -> str | None:
    """Read the application's id as the service will.

    Raises:
        SettingsError: the service would refuse it.
    """
    try:
        return parse_explicit_id(video_id)
    except ValueError as error:
        raise SettingsError([f"--video-id {error}"]) from error


async def _upload(
    path: Path, source: Submission, objects: Objects, on_bytes: Callable[[int], None]
) -> None:
    try:
        await objects.upload(path, source.bucket, source.key, on_bytes)
    except PermanentError as error:
        if error.reason != "object_missing":
            raise
        # An object that is being written can only lack its bucket.
        raise SettingsError([f"there is no bucket {source.bucket}: set POLLER_RAW_BUCKET"]) from (
            error
        )


def _plan(argument: str, raw_bucket: str | None) -> Submission:
    if argument.startswith("s3://"):
        bucket, _, key = argument.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise ValueError(f"{argument} is not of the form s3://bucket/key")
        return Submission(argument, None, bucket, key)
    path = Path(argument)
    if not path.exists():
        raise ValueError(f"{argument} does not exist")
    if not path.is_file():
        raise ValueError(f"{argument} is not a file")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{argument} may not be read")
    if raw_bucket is None:
        raise ValueError("set POLLER_RAW_BUCKET: bucket that `poller submit` uploads to")
    return Submission(argument, path, raw_bucket, make_key(path.name, datetime.now(UTC), uuid4()))


def _is_plain_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text
