"""The main job and its bad inputs: the service as a process on the real emulator and Postgres."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shop
from tests.clips import make_clip, make_unusable
from tests.factories import DATED_KEY, make_s3_body, make_s3_record
from tests.running import running

QUICK = {"lease_seconds": "6", "heartbeat_seconds": "2", "visibility_seconds": "60"}
STORED = ("stored",)
DUPLICATE = ("duplicate",)


@pytest.mark.parametrize("application_first", [True, False])
async def test_two_announcements_give_one_result(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, *, application_first: bool
) -> None:
    """Whichever comes first, there is one analysis with the application's id, and one duplicate."""
    await shop.upload(make_clip(tmp_path / "clip.mp4"), DATED_KEY)

    async def announce_by_s3() -> str:
        return await shop.send(make_s3_body(make_s3_record(shop.bucket, DATED_KEY)))

    async with running(settings_env, **QUICK) as service:
        if application_first:
            await shop.announce(DATED_KEY, 84)
            await service.logged("video.finished", outcomes=STORED)
            await announce_by_s3()
        else:
            await announce_by_s3()
            await service.logged("video.finished", outcomes=STORED)
            await shop.announce(DATED_KEY, 84)
        await service.logged("video.finished", outcomes=DUPLICATE)
        duplicates = await service.metric("poller_duplicates_total", outcome="done")
        stored = await service.metric("poller_events_stored_total", event_type="shot")

    assert duplicates == 1
    timeline = await shop.database.fetch("SELECT * FROM timeline")
    assert {row["external_id"] for row in timeline} == {"84"}
    assert len([row for row in timeline if row["event_type"] == "shot"]) == stored == 1
    assert await shop.database.fetchval("SELECT count(*) FROM events") == len(timeline)
    assert await shop.database.fetchval("SELECT count(*) FROM analyses") == 1
    assert await shop.database.fetchval("SELECT count(*) FROM embeddings") >= 3
    assert await shop.depth() == (0, 0)


async def test_simultaneous_announcements_give_one_result(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Five at once: one is worked on, its beats reach both systems, four wait and are deleted."""
    await shop.upload(make_clip(tmp_path / "clip.mp4"), DATED_KEY)
    for _ in range(5):
        await shop.announce(DATED_KEY, 84)

    async with running(settings_env, **QUICK, max_concurrent_videos="5") as service:
        await service.logged("video.finished", outcomes=DUPLICATE, times=4, seconds=100)
        duplicates = await service.metric("poller_duplicates_total", outcome="done")

    assert duplicates == 4
    assert [line for line in service.lines if line["event"].startswith("heartbeat.")] == []
    assert await shop.database.fetchval("SELECT count(*) FROM analyses") == 1
    assert (await shop.analysis(DATED_KEY))["attempts"] == 1
    assert await shop.depth() == (0, 0)


async def test_bad_messages_go_to_the_dlq(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Each with its reason and as it was; the good one between them is analysed."""
    await shop.upload(make_clip(tmp_path / "clip.mp4"), "good.mp4")
    bad = {
        "no json \u2713": "not_json",
        json.dumps({"hello": "world"}): "unknown_shape",
        json.dumps({"bucket": shop.bucket}): "missing_key",
        json.dumps({"bucket": "elsewhere", "key": "k"}): "bucket_not_allowed",
        json.dumps({"bucket": shop.bucket, "key": "k", "video": {"id": []}}): "invalid_video_id",
    }
    for body in bad:
        await shop.send(body, {"origin": "till 4"})
    await shop.announce("good.mp4")
    await shop.send(json.dumps({"Event": "s3:TestEvent"}))

    async with running(settings_env, allowed_buckets=shop.bucket) as service:
        letters = await shop.dead_letters(len(bad))
        await service.logged("video.finished", outcomes=STORED)
        await service.stop()  # a letter is there before its message is gone

    assert {letter["body"]: letter["reason"] for letter in letters} == bad
    assert {letter["origin"] for letter in letters} == {"till 4"}
    assert {letter["attempts"] for letter in letters} == {"0"}
    assert all(len(letter["detail"]) > 10 for letter in letters)
    assert (await shop.analysis("good.mp4"))["state"] == "done"
    assert await shop.depth() == (0, 0)


async def test_unusable_files_go_to_the_dlq(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Told apart by the probe; the analysis is failed with the reason of the DLQ message."""
    files = make_unusable(tmp_path)
    for name, (path, _) in files.items():
        await shop.upload(path, name)
        await shop.announce(name)

    (tmp_path / "work").mkdir()
    async with running(settings_env, work_dir=str(tmp_path / "work")) as service:
        letters = await shop.dead_letters(len(files))
        await service.logged("video.finished", verdict="deadletter", times=len(files))
        left = list((tmp_path / "work").glob("*/*/*"))

    expected = {name: reason for name, (_, reason) in files.items()}
    assert {json.loads(x["body"])["s3"]["key"]: x["reason"] for x in letters} == expected
    assert {x["attempts"] for x in letters} == {"1"}
    for name, reason in expected.items():
        row = await shop.analysis(name)
        assert (row["state"], row["error_code"]) == ("failed", reason)
    assert left == []
    assert await shop.depth() == (0, 0)


async def test_refused_objects_go_to_the_dlq(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Missing, forbidden, too big, too long: each has its reason, and a row where it can."""
    long = make_clip(tmp_path / "long.mp4", seconds=8)
    big = make_clip(tmp_path / "big.mp4", "-qp", "0", seconds=3, size="640x360")
    short = make_clip(tmp_path / "short.mp4", seconds=1)
    await shop.upload(long, "long.mp4")
    await shop.upload(big, "big.mp4")
    await shop.upload_archived(short, "archived.mp4")
    for key in ("long.mp4", "big.mp4", "archived.mp4", "gone.mp4"):
        await shop.announce(key)
    limit = (big.stat().st_size + long.stat().st_size) // 2
    assert limit > long.stat().st_size

    async with running(settings_env, max_video_bytes=str(limit), max_video_seconds="5"):
        letters = await shop.dead_letters(4)

    assert {json.loads(x["body"])["s3"]["key"]: x["reason"] for x in letters} == {
        "long.mp4": "too_long",
        "big.mp4": "too_large",
        "archived.mp4": "object_forbidden",
        "gone.mp4": "object_missing",
    }
    for key, reason in [("long.mp4", "too_long"), ("big.mp4", "too_large")]:
        assert (await shop.analysis(key))["error_code"] == reason
    assert (await shop.analysis("archived.mp4"))["error_code"] == "object_forbidden"


async def test_a_contradicting_id_goes_to_the_dlq(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """The second of two stated ids for one object is refused; the first one's result stays."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")

    async with running(settings_env) as service:
        await shop.announce("a.mp4", 84)
        await service.logged("video.finished", outcomes=STORED)
        await shop.announce("a.mp4", 85)
        (letter,) = await shop.dead_letters(1)

    assert letter["reason"] == "identity_conflict"
    assert (await shop.analysis("a.mp4"))["external_id"] == "84"
    assert (await shop.analysis("a.mp4"))["state"] == "done"


async def test_several_records_in_one_message(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Each is analysed; one that fails sends the message to the DLQ after all of them."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=1)
    await shop.upload(clip, "one.x.mp4")
    await shop.upload(clip, "two.x.mp4")
    keys = ("one.x.mp4", "gone.x.mp4", "two.x.mp4")
    await shop.send(make_s3_body(*(make_s3_record(shop.bucket, key) for key in keys)))

    async with running(settings_env) as service:
        (letter,) = await shop.dead_letters(1)
        await service.logged("video.finished", verdict="deadletter")

    assert letter["reason"] == "object_missing"
    assert (await shop.analysis("one.x.mp4"))["state"] == "done"
    assert (await shop.analysis("two.x.mp4"))["state"] == "done"
    assert await shop.depth() == (0, 0)


async def test_redriven_messages_are_worked_on_again(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """A message that comes back with its DLQ attributes gets a new start, by whatever tool."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=4)
    await shop.upload(clip, "a.mp4")
    await shop.announce("a.mp4")
    async with running(settings_env, max_video_seconds="2") as service:
        (letter,) = await shop.dead_letters(1)
        await service.stop()
    attributes = {name: letter[name] for name in ("reason", "detail", "attempts")}

    async with running(settings_env) as service:
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=DUPLICATE)
        before = (await shop.analysis("a.mp4"))["state"]
        await shop.send(letter["body"], attributes)
        await service.logged("video.finished", outcomes=STORED)

    assert letter["reason"] == "too_long"
    assert before == "failed"
    row = await shop.analysis("a.mp4")
    assert (row["state"], row["attempts"], row["error_code"]) == ("done", 1, None)


async def test_damaged_files_are_analysed_as_far_as_they_go(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """A hole in the middle and a missing end become `decode_gap` events, without an error."""
    whole = make_clip(tmp_path / "whole.mp4", "-movflags", "+faststart", seconds=8).read_bytes()
    hole = bytearray(whole)
    hole[len(hole) // 2 : len(hole) // 2 + len(hole) // 10] = bytes(len(hole) // 10)
    (tmp_path / "hole.mp4").write_bytes(hole)
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    for name in ("hole.mp4", "cut.mp4"):
        await shop.upload(tmp_path / name, name)
        await shop.announce(name)

    async with running(settings_env) as service:
        await service.logged("video.finished", outcomes=STORED, times=2)

    gaps = await shop.database.fetch(
        "SELECT object_key, start_ms, end_ms FROM timeline WHERE event_type = 'decode_gap'"
    )
    assert {gap["object_key"] for gap in gaps} == {"hole.mp4", "cut.mp4"}
    (tail,) = [gap for gap in gaps if gap["object_key"] == "cut.mp4"]
    assert 3000 < tail["start_ms"] < 6000
    assert 7900 <= tail["end_ms"] <= 8100
    assert (await shop.analysis("cut.mp4"))["error_code"] is None


@pytest.mark.parametrize("kills", [1, 2])
async def test_a_decoder_that_dies(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, *, kills: int
) -> None:
    """It is tried once more; dying again fails its video. The other video does not notice."""
    await shop.upload(make_clip(tmp_path / "long.mp4", seconds=120, size="640x360"), "long.mp4")
    await shop.upload(make_clip(tmp_path / "other.mp4", seconds=20), "other.mp4")
    await shop.announce("long.mp4")

    async with running(settings_env, sample_fps="all") as service:
        killed = set[int]()
        async with asyncio.timeout(60):
            while len(killed) < kills:
                for child in service.decoders():
                    if child.pid not in killed:
                        child.kill()
                        killed.add(child.pid)
                await asyncio.sleep(0.05)
        await shop.announce("other.mp4")
        if kills == 2:
            (letter,) = await shop.dead_letters(1)
            assert letter["reason"] == "decoder_crashed"
        await service.logged("video.finished", outcomes=STORED, times=3 - kills, seconds=120)

    assert (await shop.analysis("other.mp4"))["state"] == "done"
    row = await shop.analysis("long.mp4")
    assert row["state"] == ("done" if kills == 1 else "failed")
    assert row["attempts"] == 1
