"""The service with a results bucket: pictures and a file beside the rows."""

import asyncio
import json
from pathlib import Path

from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.running import running

from poller.local.resources import Clients

JPEG = b"\xff\xd8\xff"


async def test_each_event_has_its_picture(
    shop: Shop, settings_env: dict[str, str], clients: Clients, bucket: str, tmp_path: Path
) -> None:
    """The rows name pictures that are there, and the file says what the rows say."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=2), "a.mp4")
    await shop.announce("a.mp4")

    async with running(settings_env, results_bucket=bucket) as service:
        await service.logged("video.finished", outcomes=("stored",))
        await service.stop()

    rows = await shop.database.fetch("SELECT event_type, thumbnail_key FROM timeline ORDER BY seq")
    keys = {row["thumbnail_key"] for row in rows}
    assert rows
    for key in keys:
        found = await clients.s3.get_object(Bucket=bucket, Key=key)
        assert (await found["Body"].read()).startswith(JPEG)
    prefix = Path(next(iter(keys))).parent
    found = await clients.s3.get_object(Bucket=bucket, Key=f"{prefix}/result.json")
    result = json.loads(await found["Body"].read())
    assert [event["thumbnail_key"] for event in result["events"]] == [
        row["thumbnail_key"] for row in rows
    ]


async def test_a_results_bucket_that_is_not_there(settings_env: dict[str, str]) -> None:
    """Found out at the start, not after the first video's work."""
    async with running(settings_env, results_bucket="there-is-none-of-this-name") as service:
        async with asyncio.timeout(60):
            status = await service.process.wait()
        await service.stop()

    assert status == 1
    assert "s3://there-is-none-of-this-name cannot be written to" in service.lines[-1]["event"]
