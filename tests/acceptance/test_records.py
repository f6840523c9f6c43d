"""Messages that announce several objects, of which some may not be analysed."""

from pathlib import Path

from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.factories import make_s3_body, make_s3_record
from tests.running import running


async def test_a_refused_record_does_not_go_unseen(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Its neighbour is analysed, and the message ends in the DLQ with what was refused."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "good.x.mp4")
    records = (make_s3_record("elsewhere", "a.x.mp4"), make_s3_record(shop.bucket, "good.x.mp4"))
    await shop.send(make_s3_body(*records))

    async with running(settings_env, allowed_buckets=f" {shop.bucket} ,") as service:
        (letter,) = await shop.dead_letters(1)
        (line,) = await service.logged("video.finished", verdict="deadletter")

    assert (letter["reason"], letter["attempts"]) == ("bucket_not_allowed", "0")
    assert line["outcomes"] == ["failed", "stored"]
    assert (await shop.analysis("good.x.mp4"))["state"] == "done"
    assert await shop.depth() == (0, 0)
