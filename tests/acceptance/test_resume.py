"""A disturbed analysis goes on from its last checkpoint, and its rows are those of a quiet one."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.running import running

STORED = ("stored",)
QUICK = {
    "lease_seconds": "4",
    "heartbeat_seconds": "0.5",
    "visibility_seconds": "35",
    "wait_time_seconds": "1",
    "checkpoint_seconds": "0.5",
    "sample_fps": "all",
}


async def half_kept(shop: Shop, key: str) -> None:
    """Wait until the first half of a video of a minute is in checkpoints."""
    query = """
        SELECT count(*) FROM checkpoints JOIN latest_analyses USING (analysis_id)
        WHERE object_key = $1 AND position_ms >= 30000
    """
    async with asyncio.timeout(90):
        while not await shop.database.fetchval(query, key):  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.05)  # a table has no event to wait for


async def assert_equal_rows(shop: Shop, left: str, right: str) -> None:
    """Two objects with the same bytes have the same events, embeddings and counts."""
    columns = {
        "events": "event_type, start_ms, end_ms, score, attributes",
        "embeddings": "kind, start_ms, end_ms, model, embedding::text",
    }
    for table, wanted in columns.items():
        rows = [
            await shop.database.fetch(
                f"SELECT {wanted} FROM {table} JOIN latest_analyses USING (analysis_id)"  # noqa: S608 - names of ours
                " WHERE object_key = $1 ORDER BY seq",
                key,
            )
            for key in (left, right)
        ]
        assert rows[0] == rows[1] != []
    one, other = await shop.analysis(left), await shop.analysis(right)
    for name in ("frames_decoded", "frames_analyzed", "duration_seconds", "embeddings_count"):
        assert one[name] == other[name]


@pytest.mark.parametrize("way", ["killed", "drained"])
async def test_another_worker_goes_on(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, way: str
) -> None:
    """Killed or drained past the half, a worker leaves at most the half to the next one."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=60, size="1280x720")
    await shop.upload(clip, "disturbed.mp4")
    await shop.upload(clip, "quiet.mp4")
    await shop.announce("disturbed.mp4", 84)

    async with running(settings_env, **QUICK, drain_seconds="13") as first:
        await half_kept(shop, "disturbed.mp4")
        first.freeze_decoders()
        status = await first.stop(signal.SIGKILL if way == "killed" else signal.SIGTERM)
    async with running(settings_env, **QUICK) as second:
        await second.logged("video.finished", outcomes=STORED, seconds=90)
        repeated = await second.metric("poller_frames_inferred_total")
        await shop.announce("quiet.mp4")
        await second.logged("video.finished", outcomes=STORED, times=2, seconds=90)
        await second.stop()

    row = await shop.analysis("disturbed.mp4")
    assert status == (-signal.SIGKILL if way == "killed" else 0)
    assert row["attempts"] == (2 if way == "killed" else 1)
    assert 0 < repeated <= 0.6 * row["frames_analyzed"]
    assert await shop.database.fetchval("SELECT count(*) FROM checkpoints") == 0
    await assert_equal_rows(shop, "disturbed.mp4", "quiet.mp4")
    assert await shop.depth() == (0, 0)


async def test_the_device_dies(shop: Shop, settings_env: dict[str, str], tmp_path: Path) -> None:
    """The same worker goes on with a new device; little is done again, no attempt is counted."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=60, size="1280x720"), "a.mp4")
    await shop.announce("a.mp4", 84)

    async with running(settings_env, **QUICK) as service:
        await half_kept(shop, "a.mp4")
        (device,) = service.children("inference.device_main")
        os.kill(device.pid, signal.SIGKILL)
        await service.logged("video.given_back")
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        inferred = await service.metric("poller_frames_inferred_total")
        await service.stop()

    row = await shop.analysis("a.mp4")
    assert (row["state"], row["attempts"]) == ("done", 1)
    assert inferred <= 1.4 * row["frames_analyzed"]
