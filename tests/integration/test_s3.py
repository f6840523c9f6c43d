"""Revisions and their bytes, on the real emulator."""

import asyncio
import dataclasses
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.proxy import proxied

from poller.errors import PermanentError, RetryableError, SupersededError, UnavailableError
from poller.local.resources import Clients
from poller.s3 import FREE_BYTES, ObjectRevision, Objects, errors_translated, open_client

BYTES = b"0123456789" * 300_000


@pytest.fixture(params=["plain", "versioned"])
async def stored(request: pytest.FixtureRequest, clients: Clients, bucket: str) -> str:
    """A bucket, with versions and without, that has the object `k`."""
    if request.param == "versioned":
        await clients.s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
    await clients.s3.put_object(Bucket=bucket, Key="k", Body=BYTES)
    return bucket


async def test_the_bytes_of_the_revision(objects: Objects, stored: str, tmp_path: Path) -> None:
    """What HeadObject resolved is what is fetched."""
    revision = await objects.head(stored, "k")

    await objects.fetch(revision, tmp_path / "video", lambda: None)

    assert (tmp_path / "video").read_bytes() == BYTES
    assert revision.size_bytes == len(BYTES)
    assert revision.revision == (revision.version_id or revision.etag.strip('"'))
    assert '"' not in revision.revision


async def test_an_overwritten_object_is_superseded(
    objects: Objects, clients: Clients, stored: str, tmp_path: Path
) -> None:
    """Between HeadObject and the fetch, with versions and without."""
    revision = await objects.head(stored, "k")
    await clients.s3.put_object(Bucket=stored, Key="k", Body=b"new")

    with pytest.raises(SupersededError):
        await objects.fetch(revision, tmp_path / "video", lambda: None)


async def test_the_same_bytes_again_are_a_new_version(
    objects: Objects, clients: Clients, stored: str, tmp_path: Path
) -> None:
    """Where there are versions the ETag alone does not tell the revision."""
    revision = await objects.head(stored, "k")
    await clients.s3.put_object(Bucket=stored, Key="k", Body=BYTES)

    if revision.version_id is None:
        await objects.fetch(revision, tmp_path / "video", lambda: None)
        assert (tmp_path / "video").read_bytes() == BYTES
    else:
        with pytest.raises(SupersededError):
            await objects.fetch(revision, tmp_path / "video", lambda: None)


@pytest.mark.parametrize(
    ("bucket_name", "key"), [(None, "nothing"), ("test-no-such-bucket", "k"), ("No Bucket!", "k")]
)
async def test_what_is_not_there(
    objects: Objects, bucket: str, bucket_name: str | None, key: str
) -> None:
    """A missing key, a missing bucket and a name that no bucket can have are missing objects."""
    with pytest.raises(PermanentError) as missing:
        await objects.head(bucket_name or bucket, key)

    assert missing.value.reason == "object_missing"


async def test_a_body_that_stalls_is_an_outage(
    aws: dict[str, str], clients: Clients, bucket: str, tmp_path: Path
) -> None:
    """Bytes that stop coming end the fetch in bounded time."""
    await clients.s3.put_object(Bucket=bucket, Key="k", Body=BYTES * 10)
    async with proxied(aws["AWS_ENDPOINT_URL"]) as (url, proxy):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL_S3", url)
            async with open_client(read_timeout=2) as client:
                objects = Objects(client)
                revision = await objects.head(bucket, "k")
                proxy.hold_after(1_000_000)

                with pytest.raises(UnavailableError) as away:
                    async with asyncio.timeout(15):
                        await objects.fetch(revision, tmp_path / "video", lambda: None)

    assert away.value.system == "s3"


async def test_more_than_the_disk_ever_holds(objects: Objects, bucket: str, tmp_path: Path) -> None:
    """Waiting would not help."""
    huge = ObjectRevision(bucket, "k", '"e"', None, 2**60, datetime.now(UTC))

    with pytest.raises(PermanentError) as refused:
        await objects.fetch(huge, tmp_path / "video", lambda: None)

    assert refused.value.reason == "too_large"
    assert f"and {FREE_BYTES} that stay free do not fit" in refused.value.detail


async def test_an_object_with_a_key_of_its_own(
    objects: Objects, clients: Clients, bucket: str
) -> None:
    """A fault of this object alone is no outage of S3: tried again a few times, then failed."""
    await clients.s3.put_object(
        Bucket=bucket, Key="k", Body=b"b", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32
    )

    with pytest.raises(RetryableError) as unreadable:
        await objects.head(bucket, "k")

    assert unreadable.value.reason == "object_unreadable"


async def test_a_full_disk_is_an_outage(objects: Objects, bucket: str, tmp_path: Path) -> None:
    """More than what is free is not even begun."""
    huge = ObjectRevision(
        bucket, "k", '"e"', None, shutil.disk_usage(tmp_path).total - 2**28, datetime.now(UTC)
    )

    with pytest.raises(UnavailableError) as away:
        await objects.fetch(huge, tmp_path / "video", lambda: None)

    assert away.value.system == "disk"
    assert f"and {FREE_BYTES} that stay free are needed" in str(away.value)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchVersion", 404, PermanentError),
        ("AccessDenied", 403, PermanentError),
        ("InvalidObjectState", 403, PermanentError),
        ("PreconditionFailed", 412, SupersededError),
        ("InvalidRange", 416, RetryableError),
        ("KMS.DisabledException", 400, RetryableError),
        ("SlowDown", 429, UnavailableError),
        ("RequestTimeout", 408, UnavailableError),
        ("ExpiredToken", 400, UnavailableError),
        ("InvalidAccessKeyId", 403, UnavailableError),
        ("RequestTimeTooSkewed", 403, UnavailableError),
        ("InternalError", 500, UnavailableError),
        ("SlowDown", 503, UnavailableError),
    ],
)
def test_whose_fault_an_answer_is(code: str, status: int, expected: type[Exception]) -> None:
    """The object's own faults are told from those of S3, of our credentials and of our clock."""
    answer = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item] # the rest does not matter
        "GetObject",
    )

    with pytest.raises(expected), errors_translated("b", "k"):
        raise answer


async def test_a_body_that_ends_early_is_an_outage(
    objects: Objects, clients: Clients, bucket: str, tmp_path: Path
) -> None:
    """Fewer bytes than HeadObject told are not taken for the video."""
    await clients.s3.put_object(Bucket=bucket, Key="k", Body=BYTES)
    told = await objects.head(bucket, "k")
    longer = dataclasses.replace(told, size_bytes=told.size_bytes + 1)

    with pytest.raises(UnavailableError) as away:
        await objects.fetch(longer, tmp_path / "video", lambda: None)

    assert away.value.system == "s3"


async def test_a_disk_that_fills_up_meanwhile(
    objects: Objects, clients: Clients, bucket: str, tmp_path: Path
) -> None:
    """The kernel refuses a write in the middle of the body: the disk is away, not S3."""
    await clients.s3.put_object(Bucket=bucket, Key="k", Body=BYTES * 10)
    revision = await objects.head(bucket, "k")
    full = tmp_path / "video"
    full.symlink_to("/dev/full")

    with pytest.raises(UnavailableError, match="No space left") as away:
        await objects.fetch(revision, full, lambda: None)

    assert away.value.system == "disk"
