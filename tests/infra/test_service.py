"""The service on what was applied: from an upload to rows, through nothing that a test made."""

import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.clips import make_clip
from tests.commands import run_poller
from tests.infra.applied import TERRAFORM, Applied, open_buckets
from tests.running import running

pytestmark = [
    pytest.mark.skipif(not TERRAFORM, reason="terraform is not installed"),
    pytest.mark.timeout(900),
]

KEY = "videos/84/holiday.MP4"


def environment_of(container: dict[str, Any], applied: Applied, work: Path) -> dict[str, str]:
    """What ECS would give the container, but for what is this machine's."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "POLLER_", "NVIDIA_"))
    }
    return {
        **inherited,
        **applied.aws,
        **{variable["name"]: variable["value"] for variable in container["environment"]},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "POLLER_DEVICE": "cpu",
        "POLLER_HTTP_PORT": "0",
        "POLLER_WORK_DIR": str(work),
    }


@pytest.mark.parametrize("applied", ["dev"], indirect=True)
async def test_an_upload_becomes_rows(
    applied: Applied, empty_database_url: str, tmp_path: Path
) -> None:
    """Bucket, notification, queue, secret and task definition are the applied ones.

    The containers are run as their tasks say: `migrate`, `run`, and what the schedule runs. The
    database is a Postgres that the applied secret leads to, for the emulator has none.
    """
    containers = applied.containers("task_definition")
    reconcile = applied.containers("reconcile_task_definition")["reconcile"]
    environment = environment_of(containers["poller"], applied, tmp_path)
    applied.client("secretsmanager").put_secret_value(
        SecretId=environment["POLLER_DATABASE_SECRET_ARN"], SecretString=empty_database_url
    )
    open_buckets(applied)
    clip = make_clip(tmp_path / "clip.mp4")

    migrated = run_poller(
        environment_of(containers["migrate"], applied, tmp_path), *containers["migrate"]["command"]
    )
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    assert containers["poller"]["command"] == ["run"]
    async with running(environment) as service:
        await service.logged("service.started", seconds=120)
        applied.client("s3").upload_file(str(clip), applied.stack["raw_bucket"], KEY)
        (line,) = await service.logged("video.finished", outcomes=("stored",), seconds=240)
        stopped = await service.stop(seconds=120)
    reconciled = run_poller(environment_of(reconcile, applied, tmp_path), *reconcile["command"])

    assert stopped == 0
    assert reconciled.returncode == 0, reconciled.stdout + reconciled.stderr
    assert line["bucket"] == applied.stack["raw_bucket"]
    database = await asyncpg.connect(empty_database_url)
    try:
        videos = await database.fetch("SELECT object_key, external_id, state FROM latest_analyses")
        shots = await database.fetch("SELECT 1 FROM timeline WHERE event_type = 'shot'")
        vectors = await database.fetchval("SELECT count(*) FROM embeddings")
    finally:
        await database.close()
    assert [tuple(video) for video in videos] == [(KEY, "84", "done")]
    assert len(shots) == 1
    assert vectors >= 3
    counts = applied.client("sqs").get_queue_attributes(
        QueueUrl=applied.stack["queue_url"], AttributeNames=["All"]
    )["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"
