"""What goes to the results bucket, and what becomes of a video when it is away."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from tests.clips import make_clip
from tests.integration.conftest import Systems
from tests.integration.test_claims import make_analysis
from tests.integration.test_pipeline import make_gallery, run

from inference.samples import FPS, write_video
from poller.local.resources import create_bucket
from poller.postgres.claims import Claimed
from poller.rules.verdict import Postponed, Stored
from poller.s3 import ObjectRevision


async def make_bucket(systems: Systems) -> str:
    """A bucket for results."""
    name = f"results-{uuid4()}"
    await create_bucket(systems.clients.s3, name)
    return name


async def read_all(systems: Systems, bucket: str) -> dict[str, bytes]:
    """What is in a bucket, by key."""
    listed = await systems.clients.s3.list_objects_v2(Bucket=bucket)
    found = {}
    for item in listed.get("Contents", []):
        got = await systems.clients.s3.get_object(Bucket=bucket, Key=item["Key"])
        found[item["Key"]] = await got["Body"].read()
    return found


def write_cuts(directory: Path) -> bytes:
    """Three shots of two seconds: test pictures that are red, green and blue at heart."""
    path = directory / "cuts.mp4"
    colours = (220, 30, 30), (10, 90, 10), (60, 60, 250)
    shots = [np.full((64, 96, 3), colour, np.uint8) for colour in colours]
    write_video(path, enumerate(shots[n // (2 * FPS)] for n in range(6 * FPS)))
    return path.read_bytes()


def strongest(jpeg: bytes) -> int:
    """Which channel of a picture is the brightest."""
    return int(np.asarray(Image.open(io.BytesIO(jpeg))).mean(axis=(0, 1)).argmax())


async def test_each_event_has_its_picture(systems: Systems) -> None:
    """Each shot that of its own colours, under analysis and token; beside them a file says all."""
    await systems.upload("k", write_cuts(systems.directory))
    bucket = await make_bucket(systems)

    outcome = await run(systems, results_bucket=bucket)

    rows = await systems.connections.fetch("SELECT * FROM timeline ORDER BY seq")
    (analysis,) = await systems.connections.fetch("SELECT * FROM analyses")
    files = await read_all(systems, bucket)
    prefix = f"analyses/{analysis['id']}/{analysis['done_token']}/"
    shots = [row for row in rows if row["event_type"] == "shot"]
    document = json.loads(files[f"{prefix}result.json"])
    assert outcome == Stored()
    assert all(row["thumbnail_key"].startswith(prefix) for row in rows)
    assert [strongest(files[row["thumbnail_key"]]) for row in shots] == [0, 1, 2]
    assert set(files) == {row["thumbnail_key"] for row in rows} | {f"{prefix}result.json"}
    pairs = list(zip(document["events"], rows, strict=True))
    assert document["events"] == [
        {name: pytest.approx(row[name]) if name == "score" else row[name] for name in event}
        for event, row in pairs
    ]
    same = ("revision", "pipeline", "duration_seconds", "frames_decoded", "frames_skipped")
    assert {name: document[name] for name in same} == {name: analysis[name] for name in same}
    assert analysis["frames_skipped"] > 0


async def test_without_a_results_bucket(systems: Systems) -> None:
    """No event has a picture."""
    await systems.upload("k", write_cuts(systems.directory))

    outcome = await run(systems)

    keys = await systems.connections.fetch("SELECT DISTINCT thumbnail_key FROM timeline")
    assert (outcome, [row["thumbnail_key"] for row in keys]) == (Stored(), [None])


async def test_a_results_bucket_that_is_away(systems: Systems) -> None:
    """The video is postponed like in any outage, no attempt is counted, and stored afterwards."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=2)
    await systems.upload("k", clip.read_bytes())
    bucket = f"results-{uuid4()}"

    first = await run(systems, results_bucket=bucket)
    (before,) = await systems.connections.fetch("SELECT * FROM analyses")
    await create_bucket(systems.clients.s3, bucket)
    await systems.connections.execute("UPDATE analyses SET not_before = NULL")
    second = await run(systems, results_bucket=bucket)

    assert isinstance(first, Postponed)
    assert (first.away, before["state"], before["attempts"]) == ("results", "retry", 0)
    assert second == Stored()
    assert any(key.endswith("result.json") for key in await read_all(systems, bucket))


async def test_a_zombie_overwrites_nothing(systems: Systems) -> None:
    """Who lost the lease writes under its own token, beside what is shown."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=2)
    bucket = await make_bucket(systems)
    gallery = make_gallery(systems, bucket)
    zombie = Claimed(7, uuid4(), 1, uuid4(), 1, 0)
    revision = ObjectRevision("b", "k", '"e"', None, 1, datetime.now(UTC))
    analysis = make_analysis(events=2)

    for claim in (replace(zombie, token=2), zombie):
        shown = await gallery.show(claim, revision, clip, analysis, lambda: None)
        assert shown.cost.cpu_seconds > analysis.cost.cpu_seconds  # pictures cost something, too

    files = await read_all(systems, bucket)
    assert {key.rsplit("/", 1)[0] for key in files} == {"analyses/7/1", "analyses/7/2"}
    assert json.loads(files["analyses/7/2/result.json"])["lease_token"] == 2


async def test_pictures_that_cannot_be_made(systems: Systems) -> None:
    """They are left out, counted, and the log says why; what there is is written."""
    before = REGISTRY.get_sample_value("poller_errors_total", {"kind": "thumbnail"}) or 0
    bucket = await make_bucket(systems)
    text = systems.directory / "text.mp4"
    text.write_text("this is no video\n" * 500)
    claim = Claimed(7, uuid4(), 1, uuid4(), 1, 0)
    revision = ObjectRevision("b", "k", '"e"', None, 1, datetime.now(UTC))

    with capture_logs() as logs:
        shown = await make_gallery(systems, bucket).show(
            claim, revision, text, make_analysis(events=2), lambda: None
        )

    assert [event.thumbnail_key for event in shown.results.events] == [None, None]
    assert list(await read_all(systems, bucket)) == ["analyses/7/1/result.json"]
    assert REGISTRY.get_sample_value("poller_errors_total", {"kind": "thumbnail"}) == before + 2
    (warning,) = (each for each in logs if each["event"] == "pictures.lacking")
    assert (warning["analysis_id"], warning["without"]) == (7, 2)
    assert warning["why"].startswith("not_a_video: ")
