"""`poller search` as a process: what it finds, what it leaves out, and what it refuses."""

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from tests.commands import run_poller

from inference.samples import Picture, paint_scene, pan
from inference.still import describe_picture
from poller.postgres.reports import Among, Reports

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
DAY = datetime(2025, 12, 29, tzinfo=UTC)


def write_picture(path: Path, picture: Picture) -> Path:
    """Write a PNG or JPEG, by the name's ending."""
    codec, pixel_format = {".png": ("png", "rgb24"), ".jpg": ("mjpeg", "yuvj420p")}[path.suffix]
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream(codec, rate=Fraction(1))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = pixel_format
        container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def view(scene: int, at: float = 0.0, width: int = 640, height: int = 360) -> Picture:
    """A camera's picture of one of several scenes, moved along by `at`, 0..1."""
    return pan(paint_scene(scene, width, height), at, width, height)


async def store(
    database: Database,
    directory: Path,
    name: str,
    pictures: dict[int, Picture],
    uploaded: datetime = DAY,
) -> int:
    """A video whose described frames are these pictures at these seconds; its analysis."""
    video_id = await database.fetchval(
        "INSERT INTO videos (bucket, object_key, external_id, external_id_source)"
        " VALUES ('shop', $1, $1, 'body') RETURNING id",
        name,
    )
    analysis_id: int = await database.fetchval(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, done_token, object_modified_at)"
        " VALUES ($1, 'r', 'p', 'done', 1, gen_random_uuid(), 'o', now(), 1, 1, $2) RETURNING id",
        video_id,
        uploaded,
    )
    for seq, (second, picture) in enumerate(pictures.items()):
        path = write_picture(directory / f"{analysis_id}-{seq}.png", picture)
        for number, kind in enumerate(("frame", "shot")):
            await database.execute(
                "INSERT INTO embeddings (analysis_id, lease_token, seq, kind, start_ms, end_ms,"
                " model, embedding)"
                " VALUES ($1, 1, $2, $3, $4::int, $4::int + 1000, 'dct-hog-v1', $5::text::halfvec)",
                analysis_id,
                2 * seq + number,
                kind,
                second * 1000,
                str(describe_picture(path).tolist()),
            )
    return analysis_id


def find(environment: dict[str, str], *arguments: str) -> list[tuple[str, int]]:
    """Which videos at which second, nearest first."""
    shown = run_poller(environment, "search", *arguments, "--json")
    assert shown.returncode in {0, 1}, shown.stderr
    rows: list[dict[str, Any]] = json.loads(shown.stdout)
    assert (shown.returncode == 0) == bool(rows)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    return [(row["external_id"], row["start_ms"] // 1000) for row in rows]


async def test_a_picture_finds_its_moment(
    database: Database, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """A smaller copy as JPEG finds the video and the second it is from, before all others."""
    for scene in range(6):
        await store(database, tmp_path, f"v{scene}", {0: view(scene), 40: view(scene, 0.9)})
    picture = write_picture(tmp_path / "seen.jpg", view(4, 0.9)[::2, ::2])

    found = find(settings_env, "--image", str(picture))
    shown = run_poller(settings_env, "search", "--image", str(picture), "--limit", "1")

    assert found[0] == ("v4", 40)
    assert len(found) == 10
    assert "s3://shop/v4" in shown.stdout
    assert "0:40.000" in shown.stdout
    assert "s3://shop/v0" not in shown.stdout


async def test_a_moment_finds_others(
    database: Database, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Not itself: other videos, or with --in other moments of the one that is named."""
    pictures = {0: view(1), 30: view(2), 60: view(1, 0.1)}
    await store(database, tmp_path, "asked", pictures)
    await store(database, tmp_path, "other", {7: view(1, 0.05), 70: view(3)})

    elsewhere = find(settings_env, "--video", "asked", "--at", "0:00", "--limit", "1")
    within = find(settings_env, "--video", "asked", "--at", "1:00.2", "--in", "s3://shop/asked")

    said = run_poller(settings_env, "search", "--video", "asked", "--at", "0")
    assert elsewhere == [("other", 7)]
    assert "asked itself is left out; `--in asked` looks in it alone" in said.stdout
    assert within == [("asked", 60), ("asked", 0), ("asked", 30)]


async def test_the_video_itself_is_left_out_and_told_so(
    database: Database, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Also where that is why nothing is found; what to add to the command finds it."""
    await store(database, tmp_path, "my shop", {0: view(1), 30: view(2)})
    asked = ("search", "--video", "my shop", "--at", "0:00")

    alone = run_poller(settings_env, *asked)
    told = "my shop itself is left out; `--in 'my shop'` looks in it alone\n"
    within = run_poller(settings_env, *asked, "--in", "my shop")
    await store(database, tmp_path, "other", {7: view(1, 0.05)})
    beside = run_poller(settings_env, *asked)

    assert (alone.returncode, within.returncode, beside.returncode) == (1, 0, 0)
    assert alone.stdout.endswith(told)
    assert beside.stdout.endswith(told)
    assert "s3://shop/my shop" in within.stdout
    assert "left out" not in within.stdout


async def test_neighbours_in_time_are_one_moment(
    database: Database, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """A scene that lasts does not fill the list: each ten seconds of it count once."""
    still = {second: view(1) for second in range(25)}
    await store(database, tmp_path, "still", still)
    await store(database, tmp_path, "other", {0: view(2)})
    picture = write_picture(tmp_path / "seen.png", view(1))

    found = find(settings_env, "--image", str(picture), "--limit", "9")

    seconds = sorted(second for name, second in found if name == "still")
    assert len(seconds) in {2, 3}
    assert all(b - a >= 10 for a, b in pairwise(seconds))
    assert found[-1] == ("other", 0)


async def test_a_key_stays_in_one_line_where_nobody_looks_on(
    settings_env: dict[str, str], database: Database, tmp_path: Path
) -> None:
    """In the log of a task, where a terminal's width means nothing."""
    key = "videos/2025/12/29/the-camera-above-the-door/holiday.mp4"
    await store(database, tmp_path, key, {0: view(1)})
    picture = write_picture(tmp_path / "seen.png", view(1))

    shown = run_poller(settings_env, "search", "--image", str(picture))

    assert f"s3://shop/{key}" in shown.stdout


async def test_persons_who_come_at_the_same_time_are_all_shown(
    database: Database, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Each by its track, which names its row in the timeline."""
    analysis = await store(database, tmp_path, "shop", {0: view(1), 2: view(2)})
    await database.execute(
        "UPDATE embeddings SET kind = 'track', track_id = start_ms / 2000 + 7"
        " WHERE analysis_id = $1 AND kind = 'shot'",
        analysis,
    )
    looked_for = "search", "--image", str(write_picture(tmp_path / "seen.png", view(1)))

    shown = run_poller(settings_env, *looked_for, "--kind", "track", columns=120)

    rows = [line.split("│") for line in shown.stdout.splitlines() if "s3://" in line]
    assert [row[5].strip() for row in rows] == ["7", "8"], shown.stdout
    assert "track" not in run_poller(settings_env, *looked_for, columns=120).stdout


async def test_filters(database: Database, settings_env: dict[str, str], tmp_path: Path) -> None:
    """By video, by event, by the time of the upload: what does not fit is not in the list."""
    old = await store(database, tmp_path, "old", {0: view(1), 60: view(1)})
    await store(database, tmp_path, "new", {0: view(1)}, uploaded=DAY + timedelta(days=2))
    await database.execute(
        "INSERT INTO events (analysis_id, lease_token, seq, event_type, start_ms, end_ms)"
        " VALUES ($1, 1, 0, 'motion', 55000, 65000)",
        old,
    )
    looked_for = ("--image", str(write_picture(tmp_path / "seen.png", view(1))))

    assert find(settings_env, *looked_for, "--during", "motion") == [("old", 60)]
    assert find(settings_env, *looked_for, "--since", "2025-12-30") == [("new", 0)]
    assert set(find(settings_env, *looked_for, "--until", "2025-12-30")) == {
        ("old", 0),
        ("old", 60),
    }
    assert find(settings_env, *looked_for, "--in", "new", "--kind", "shot") == [("new", 0)]
    assert find(settings_env, *looked_for, "--during", "person") == []
    nothing = run_poller(settings_env, "search", *looked_for, "--during", "moton")
    assert "described during `moton` fits" in nothing.stdout


async def test_a_filter_does_not_empty_the_list(database: Database) -> None:
    """Of five thousand frames fifty may be found: they are, although the index is asked first."""
    await database.execute(
        "WITH v AS (INSERT INTO videos (bucket, object_key)"
        "   SELECT 'b', 'k' || n FROM generate_series(1, 100) n RETURNING id),"
        " a AS (INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        "   lease_owner, lease_expires_at, attempts, done_token, object_modified_at)"
        "   SELECT id, 'r', 'p', 'done', 1, gen_random_uuid(), 'o', now(), 1, 1, now() FROM v"
        "   RETURNING id)"
        " INSERT INTO embeddings"
        " (analysis_id, lease_token, seq, kind, start_ms, end_ms, model, embedding)"
        " SELECT id, 1, s, 'frame', s * 20000, s * 20000 + 1000, 'dct-hog-v1',"
        "   (SELECT array_agg(random() - 0.5) FROM generate_series(1, 256 + 0 * (id + s)::int)"
        "   )::vector FROM a, generate_series(1, 50) s"
    )
    await database.execute("ANALYZE")
    only = await database.fetchval("SELECT id FROM videos WHERE object_key = 'k50'")
    vector = str(np.random.default_rng(1).normal(size=256).tolist())

    # Else the planner reads so few rows without the index.
    await database.execute("SET enable_sort = off")

    found = await Reports(database).nearest_moments(vector, Among("frame", only=[only]), 40)

    assert len(found) == 40
    assert {row["object_key"] for row in found} == {"k50"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--image, --video with --at, or --text"),
        (("--image", "seen.png", "--video", "84"), "say what to look for"),
        (("--video", "84"), "at what TIME"),
        (("--video", "84", "--at", "1:75"), "is no time"),
        (("--video", "85", "--at", "1"), "no video is known as 85"),
        (("--video", "84", "--at", "1:00:00"), "the nearest is at 0:00.000"),
        (("--image", "nothing.png"), "nothing.png: No such file or directory\n"),
        (("--image", "text.png"), "holds no picture"),
        (("--text", " "), "--text: say in words"),
        (("--text", "a red car"), "the built-in descriptor knows no words"),
        (("--video", "84", "--at", "0", "--in", "85"), "no video is known as 85"),
    ],
)
async def test_what_cannot_be_looked_for(
    database: Database,
    settings_env: dict[str, str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """Exit 2 and one line that says what is wrong with it, as of the other commands."""
    await store(database, tmp_path, "84", {0: view(1)})
    write_picture(tmp_path / "seen.png", view(1))
    (tmp_path / "text.png").write_text("no picture, but a sentence")
    placed = [str(tmp_path / part) if part.endswith(".png") else part for part in arguments]

    refused = run_poller(settings_env, "search", *placed)

    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.startswith("poller: ")
    assert len(refused.stderr.splitlines()) == 1
    assert "Errno" not in refused.stderr
