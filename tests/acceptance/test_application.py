"""An application with plain boto3: it uploads, announces, and reads results with SQL."""

from pathlib import Path

import asyncpg
from localstack_client.session import Session
from tests.clips import make_clip
from tests.factories import DATED_KEY, make_application_body
from tests.running import running


async def test_an_upload_is_announced_twice_and_analysed_once(
    settings_env: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """S3's own notification and the application's message: one result, one duplicate, id 84."""
    session = Session(region_name=settings_env["AWS_DEFAULT_REGION"])
    bucket = settings_env["POLLER_RAW_BUCKET"]
    session.client("s3").upload_file(str(make_clip(tmp_path / "clip.mp4")), bucket, DATED_KEY)
    session.client("sqs").send_message(
        QueueUrl=settings_env["POLLER_QUEUE_URL"],
        MessageBody=make_application_body(bucket, DATED_KEY, 84),
    )

    quick = {"lease_seconds": "6", "heartbeat_seconds": "2", "visibility_seconds": "60"}
    async with running(settings_env, **quick) as service:
        await service.logged("video.finished", outcomes=("stored",))
        await service.logged("video.finished", outcomes=("duplicate",))
        duplicates = await service.metric("poller_duplicates_total", outcome="done")

    async with asyncpg.create_pool(database_url, min_size=0, max_size=1) as database:
        shots = await database.fetch(
            "SELECT start_ms, end_ms FROM timeline WHERE external_id = '84' AND event_type = 'shot'"
        )
        analyses = await database.fetchval("SELECT count(*) FROM analyses")
    assert duplicates == 1
    assert analyses == 1
    assert [tuple(shot) for shot in shots] == [(0, 3000)]
