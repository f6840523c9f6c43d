"""Objects: which revision there is, and its bytes on local disk."""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from poller.errors import PermanentError, RetryableError, SupersededError, UnavailableError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_CHUNK_BYTES = 1024 * 1024
FREE_BYTES = 256 * 1024 * 1024
_MISSING = {
    "404",
    "NoSuchKey",
    "NoSuchBucket",
    "NotFound",
    "NoSuchVersion",
    "405",
    "MethodNotAllowed",
}
_FORBIDDEN = {"403", "AccessDenied", "Forbidden", "InvalidObjectState", "AllAccessDisabled"}
_NAMELESS = {"400", "403"}
"""What is left of an error's name in an answer to HEAD: a clock, a key or the object at fault."""
_CHANGED = {"412", "PreconditionFailed"}
_PASSING = {408, 409, 425, 429}
"""HTTP statuses below 500 that say: later."""
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""Full, over a quota, over a limit, read-only, broken: no connection says any of these."""
_OURS = {"ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
"""Faults of our credentials or clock, of no object."""


@dataclass(frozen=True, slots=True)
class ObjectRevision:
    """What HeadObject says is there now."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    size_bytes: int
    modified_at: datetime
    """When the object got these bytes, as S3 says."""

    @property
    def revision(self) -> str:
        """The version id where the bucket is versioned, else the ETag without quotes."""
        return self.version_id or self.etag.strip('"')


@asynccontextmanager
async def open_client(*, read_timeout: float = 30) -> "AsyncIterator[S3Client]":
    """Open a client whose reads give up when no byte comes for `read_timeout` seconds."""
    config = AioConfig(
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=50,
        retries={"total_max_attempts": 3, "mode": "standard"},
    )
    async with aioboto3.Session().client("s3", config=config) as client:
        yield client


def check_room(directory: Path, size_bytes: int) -> None:
    """Check that the disk has room for a file, and for what else it must hold.

    Raises:
        PermanentError: `too_large`, even for an empty disk.
        UnavailableError: it is full now.
    """
    total, _, free = shutil.disk_usage(directory)
    needed = size_bytes + FREE_BYTES
    what = f"{size_bytes} bytes and {FREE_BYTES} that stay free"
    if total < needed:
        raise PermanentError("too_large", f"{what} do not fit on a disk of {total}")
    if free < needed:
        raise UnavailableError("disk", f"{free} bytes are free in {directory}; {what} are needed")


class Objects:
    """Reads, and for `submit` writes, objects."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    async def head(self, bucket: str, key: str) -> ObjectRevision:
        """Resolve the revision that the object has now.

        Raises:
            PermanentError: `object_missing`, `object_forbidden`.
            RetryableError: `object_unreadable`.
            UnavailableError: S3 is away.
        """
        with errors_translated(bucket, key):
            try:
                head = await self._client.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in _NAMELESS:
                    await self._read_byte(bucket, key)
                raise
        version = head.get("VersionId")
        return ObjectRevision(
            bucket,
            key,
            head["ETag"],
            None if version == "null" else version,
            head["ContentLength"],
            head["LastModified"],
        )

    async def _read_byte(self, bucket: str, key: str) -> None:
        """Ask by GET, whose answer has a body that names the fault, as that of HEAD has not."""
        got = await self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
        got["Body"].close()

    async def check_bucket(self, bucket: str) -> None:
        """Check that the bucket is there and may be listed. Raises as `head` does."""
        with errors_translated(bucket, ""):
            await self._client.head_bucket(Bucket=bucket)

    async def list_modified(self, bucket: str, prefix: str) -> AsyncIterator[dict[str, datetime]]:
        """Page by page, the keys under `prefix` that have bytes, and when they got them.

        Raises as `head` does.
        """
        with errors_translated(bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                found = (item for item in page.get("Contents", []) if item["Size"])
                yield {item["Key"]: item["LastModified"] for item in found}

    async def fetch(
        self, revision: ObjectRevision, path: Path, on_chunk: Callable[[], None]
    ) -> None:
        """Stream exactly this revision to `path`; `on_chunk` is called as it goes on.

        Raises:
            SupersededError: the object was overwritten.
            PermanentError: `object_missing`, `object_forbidden`, `too_large` for the disk.
            RetryableError: `object_unreadable`.
            UnavailableError: S3 is away, its body stalls, or the disk is full.
        """
        check_room(path.parent, revision.size_bytes)
        with errors_translated(revision.bucket, revision.key):
            response = await self._client.get_object(
                Bucket=revision.bucket, Key=revision.key, IfMatch=revision.etag
            )
            received = 0
            with closing(response["Body"]) as body, path.open("wb") as file:
                if revision.version_id and response.get("VersionId") != revision.version_id:
                    raise SupersededError(f"the version is now {response.get('VersionId')}")
                async for chunk in body.iter_chunks(_CHUNK_BYTES):
                    await asyncio.to_thread(file.write, chunk)
                    received += len(chunk)
                    on_chunk()
        if received != revision.size_bytes:
            raise UnavailableError("s3", f"the body ended at {received} of {revision.size_bytes}")

    async def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        """Write an object of ours. Raises as `head` does."""
        with errors_translated(bucket, key):
            await self._client.put_object(
                Bucket=bucket, Key=key, Body=body, ContentType=content_type
            )

    async def upload(
        self, path: Path, bucket: str, key: str, on_bytes: Callable[[int], None]
    ) -> None:
        """Upload a file, in parts where it is large. Raises as `head` does."""
        with errors_translated(bucket, key):
            await self._client.upload_file(str(path), bucket, key, Callback=on_bytes)


@contextmanager
def errors_translated(bucket: str, key: str) -> Iterator[None]:
    """Turn what S3 and its client raise into our errors."""
    where = f"s3://{bucket}/{key}"
    try:
        yield
    except ParamValidationError as error:
        raise PermanentError("object_missing", f"{where} cannot exist: {error}") from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _MISSING:
            raise PermanentError("object_missing", f"{where} does not exist ({code})") from error
        if code in _FORBIDDEN:
            raise PermanentError("object_forbidden", f"{where} may not be read ({code})") from error
        if code in _CHANGED:
            raise SupersededError(f"{where} was overwritten") from error
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if 400 <= status < 500 and status not in _PASSING and code not in _OURS:
            raise RetryableError("object_unreadable", f"{where}: {error}") from error
        raise UnavailableError("s3", str(error)) from error
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        # No space left on the device is an OSError too; it is not S3's fault.
        system = "disk" if getattr(error, "errno", None) in _DISK_ERRORS else "s3"
        raise UnavailableError(system, f"{type(error).__name__}: {error}") from error
