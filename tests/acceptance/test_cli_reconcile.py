"""`poller reconcile`: what fell between database, queue and DLQ is set right."""

import asyncio
import re
from pathlib import Path

from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.commands import count_all, run_poller, send_letter
from tests.factories import make_application_body
from tests.running import running
from tests.stalled import HOUR, store_analysis, store_bound

from poller.local.resources import Clients, QueuePair
from poller.postgres.pool import Connection


async def test_a_lost_video_is_finished_after_all(
    settings_env: dict[str, str],
    shop: Shop,
    database: Connection,
    clients: Clients,
    queues: QueuePair,
    tmp_path: Path,
) -> None:
    """Its worker died and its message is nowhere; its letter of an earlier failure goes with it."""
    await shop.upload(make_clip(tmp_path / "clip.mp4"), "k.mp4")
    await store_bound(database, bucket=shop.bucket, external_id="84")
    async with running(settings_env) as service:
        await service.logged("service.started")
        lost = await asyncio.to_thread(run_poller, settings_env, "reconcile")
        await service.logged("video.finished", outcomes=("stored",))
    letter = make_application_body(shop.bucket, "k.mp4")
    await send_letter(clients, queues.dlq_url, letter, "too_long")

    tidied = run_poller(settings_env, "reconcile")

    assert lost.returncode == tidied.returncode == 0, lost.stderr + tidied.stderr
    assert f"sent again: s3://{shop.bucket}/k.mp4 (never claimed, idle for 9 h)" in lost.stdout
    assert re.search(r"too_long\s*│\s*1\s*│\s*0", tidied.stdout)
    assert (await shop.analysis("k.mp4"))["state"] == "done"
    assert (await shop.analysis("k.mp4"))["external_id"] == "84"
    assert await shop.depth(dlq=True) == (0, 0)


async def test_two_at_once_announce_each_video_once(
    settings_env: dict[str, str], database: Connection, clients: Clients, queues: QueuePair
) -> None:
    """As when a scheduler starts the next one before the last has ended."""
    for number in range(5):
        await store_analysis(database, f"{number}.mp4")
    before = await count_all(clients, queues.url)

    ended = await asyncio.gather(
        *(asyncio.to_thread(run_poller, settings_env, "reconcile") for _ in range(2))
    )

    assert [run.returncode for run in ended] == [0, 0]
    assert await count_all(clients, queues.url) - before == 5


async def test_a_dry_run_says_what_it_would_do(
    settings_env: dict[str, str], database: Connection, clients: Clients, queues: QueuePair
) -> None:
    """And does nothing: no message, no mark, no letter less."""
    await store_analysis(database, "lost.mp4", "retry", idle=30 * HOUR, not_before=29 * HOUR)
    await store_analysis(database, "old.mp4", revision="r1")
    await store_analysis(database, "old.mp4", "failed", revision="r2", modified=HOUR)
    await send_letter(clients, queues.dlq_url, make_application_body(), "not_a_video")
    before = await count_all(clients, queues.url)

    said = run_poller(settings_env, "reconcile", "--dry-run")

    assert said.returncode == 0, said.stderr
    assert "would be sent again: s3://b/lost.mp4 (retry, idle for 29 h)" in said.stdout
    assert "would be superseded: s3://b/old.mp4" in said.stdout
    assert re.search(r"not_a_video\s*│\s*0\s*│\s*1", said.stdout)
    assert await count_all(clients, queues.url) == before
    assert await count_all(clients, queues.dlq_url) == 1
    assert await database.fetchval("SELECT count(resent_at) FROM videos") == 0


async def test_objects_that_nobody_announced(
    settings_env: dict[str, str], shop: Shop, tmp_path: Path
) -> None:
    """With `--bucket` one is found, and left alone while its message may be on its way."""
    await shop.upload(make_clip(tmp_path / "clip.mp4"), "in/k.mp4")
    place = f"s3://{shop.bucket}/in/"

    early = run_poller(settings_env, "reconcile", "--bucket", place)
    wrong = run_poller(settings_env, "reconcile", "--bucket", f"s3://{shop.bucket}-gone")
    misspelt = run_poller(settings_env, "reconcile", "--bucket", shop.bucket)

    assert re.search(r"not due yet\s*│\s*1", early.stdout)
    assert (wrong.returncode, misspelt.returncode) == (1, 2)
    assert "does not exist" in wrong.stderr
    assert "is not of the form s3://bucket" in misspelt.stderr


def test_reconcile_wants_both_systems(settings_env: dict[str, str]) -> None:
    """What is missing is named, all of it, before anything is touched."""
    del settings_env["POLLER_DATABASE_URL"], settings_env["POLLER_QUEUE_URL"]

    refused = run_poller(settings_env, "reconcile")

    assert refused.returncode == 2
    assert "POLLER_QUEUE_URL" in refused.stderr
    assert "POLLER_DATABASE_URL or POLLER_DATABASE_SECRET_ARN" in refused.stderr


async def test_reconcile_wants_a_migrated_database(
    settings_env: dict[str, str], database: Connection
) -> None:
    """One of the version before is told in a line; with its rows it is brought up to date."""
    await store_analysis(database)
    await database.execute(
        "DROP VIEW latest_analyses; ALTER TABLE analyses DROP COLUMN cpu_seconds,"
        " DROP COLUMN device_seconds, DROP COLUMN frames_skipped, DROP COLUMN cost_from_ms;"
        " UPDATE alembic_version SET version_num = '0002'"
    )

    refused = run_poller(settings_env, "reconcile")
    run_poller(settings_env, "migrate")
    done = run_poller(settings_env, "reconcile")

    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "poller migrate" in refused.stderr
    assert "sent again: s3://b/k.mp4" in done.stdout
