"""The commands, run as processes against the real servers."""

import asyncio
import json
import re
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console
from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.commands import receive_all, run_poller, send_letter, store_video
from tests.proxy import proxied
from tests.running import running

from inference.events import PIPELINE
from poller.cli.follow import follow
from poller.cli.submit import wait
from poller.cli.tables import details
from poller.local.resources import Clients
from poller.postgres.migrations import pending
from poller.postgres.pool import connect
from poller.postgres.reports import Reports, Row
from poller.submission import Submission

COMMANDS = (
    "run",
    "migrate",
    "submit",
    "status",
    "search",
    "redrive",
    "demo",
    "local",
    "doctor",
    "simulate",
)
QUICK = {"lease_seconds": "6", "heartbeat_seconds": "2", "visibility_seconds": "60"}


def test_help_lists_every_command_without_loading_them() -> None:
    """The help knows all commands, and loads neither torch nor an AWS or database client."""
    script = (
        "import sys; from poller.cli import app; from typer.testing import CliRunner;"
        "print(CliRunner().invoke(app, ['--help']).output);"
        "print('LOADED', {'torch', 'aioboto3', 'asyncpg', 'av'} & set(sys.modules))"
    )

    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(Path("src").resolve())},
    ).stdout

    assert "LOADED set()" in shown
    assert all(f"\n│ {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "run"])
def test_each_command_teaches_by_example(command: str) -> None:
    """Each command's help shows a line that one can type."""
    shown = run_poller({}, command, "--help")

    assert shown.returncode == 0
    assert f"poller {command}" in shown.stdout


def test_wrong_settings_stop_with_a_line_each() -> None:
    """Every wrong variable is named on a line of its own, with exit code 2."""
    wrong = {"POLLER_BATCH_SIZE": "0", "POLLER_DEVICE": "tpu"}

    refused = run_poller(wrong, "status")

    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("poller: POLLER_") for line in lines)


def test_missing_database_is_named() -> None:
    """A command that needs the database says which variable to set."""
    refused = run_poller({}, "migrate")

    assert refused.returncode == 2
    assert "POLLER_DATABASE_URL" in refused.stderr


def test_unreachable_database_is_a_failure() -> None:
    """A database that does not answer is exit code 1 and one line, no traceback."""
    failed = run_poller({"POLLER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}, "status")

    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1


async def test_migrate_twice(settings_env: dict[str, str], database_url: str) -> None:
    """A database that is up to date is left as it is, and said to be."""
    assert database_url

    migrated = run_poller(settings_env, "migrate")

    assert migrated.returncode == 0
    assert "up to date" in migrated.stdout


async def test_the_version_before_runs_on_a_newer_schema(
    settings_env: dict[str, str], database_url: str
) -> None:
    """Who goes back finds what was added, and leaves it."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()

    migrated = run_poller(settings_env, "migrate")

    assert migrated.returncode == 0, migrated.stderr
    assert "up to date" in migrated.stdout
    assert await pending(database_url) == []


async def test_submit_uploads_and_announces(
    settings_env: dict[str, str], clients: Clients, queue: str, tmp_path: Path
) -> None:
    """A file lands under a dated key and is announced with the id, in the application's shape."""
    video = tmp_path / "holiday.mp4"
    video.write_bytes(b"x" * 9_000_000)  # more than one part

    submitted = run_poller(settings_env, "submit", str(video), "--video-id", "84")

    assert submitted.returncode == 0, submitted.stderr
    bodies = [json.loads(message["Body"]) for message in await receive_all(clients, queue)]
    [announced] = [body for body in bodies if "eventType" in body]
    assert announced["video"] == {"id": 84}
    key = announced["s3"]["key"]
    assert re.fullmatch(r"videos/\d{4}/\d\d/\d\d/[0-9a-f-]{36}_holiday\.mp4", key)
    head = await clients.s3.head_object(Bucket=announced["s3"]["bucket"], Key=key)
    assert head["ContentLength"] == 9_000_000


async def test_submit_of_an_object_only_announces(
    settings_env: dict[str, str], clients: Clients, queue: str, bucket: str
) -> None:
    """An object that is in S3 already is announced under its own key, with no id."""
    await clients.s3.put_object(Bucket=bucket, Key="a b/ü.mp4", Body=b"x")

    submitted = run_poller(settings_env, "submit", f"s3://{bucket}/a b/ü.mp4")

    assert submitted.returncode == 0, submitted.stderr
    bodies = [json.loads(message["Body"]) for message in await receive_all(clients, queue)]
    expected = {"eventType": "video-uploaded", "s3": {"bucket": bucket, "key": "a b/ü.mp4"}}
    assert expected in bodies


async def test_submit_of_a_missing_object_fails(settings_env: dict[str, str], bucket: str) -> None:
    """An object that is not there is not announced: exit 1 and its name."""
    failed = run_poller(settings_env, "submit", f"s3://{bucket}/none.mp4")

    assert failed.returncode == 1
    assert "object_missing" in failed.stderr


async def test_submit_refuses_before_it_uploads(
    settings_env: dict[str, str], clients: Clients, tmp_path: Path
) -> None:
    """With one bad argument among good ones nothing is uploaded, and each bad one is named."""
    good = tmp_path / "good.mp4"
    good.write_bytes(b"x")

    refused = run_poller(settings_env, "submit", str(good), "none.mp4", str(tmp_path), "s3://b")

    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 3
    listed = await clients.s3.list_objects_v2(Bucket=settings_env["POLLER_RAW_BUCKET"])
    assert "Contents" not in listed


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("POLLER_RAW_BUCKET", []), ("POLLER_QUEUE_URL", []), ("POLLER_DATABASE_URL", ["--wait"])],
)
async def test_submit_names_the_setting_it_lacks(
    settings_env: dict[str, str], tmp_path: Path, missing: str, arguments: list[str]
) -> None:
    """What `submit` needs and does not have is named, with exit code 2."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")
    lacking = {name: value for name, value in settings_env.items() if name != missing}

    refused = run_poller(lacking, "submit", str(video), *arguments)

    assert refused.returncode == 2
    assert missing in refused.stderr


async def test_submit_names_all_that_it_lacks(tmp_path: Path) -> None:
    """Settings that are missing and arguments that are wrong are said at once."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")

    refused = run_poller({}, "submit", str(video), "none.mp4", "--wait")

    assert refused.returncode == 2
    assert [line.split(":")[1] for line in refused.stderr.splitlines()] == [
        " set POLLER_QUEUE_URL",
        " set POLLER_DATABASE_URL or POLLER_DATABASE_SECRET_ARN",
        " set POLLER_RAW_BUCKET",
        " none.mp4 does not exist",
    ]


@pytest.mark.parametrize("video_id", ["", " ", "x" * 1000])
async def test_submit_refuses_an_id_that_the_service_would(
    settings_env: dict[str, str], clients: Clients, tmp_path: Path, video_id: str
) -> None:
    """An id that no message may state is one line and exit 2, and nothing is uploaded."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")

    refused = run_poller(settings_env, "submit", str(video), "--video-id", video_id)

    assert refused.returncode == 2
    assert refused.stderr.startswith("poller: --video-id must have 1 to ")
    listed = await clients.s3.list_objects_v2(Bucket=settings_env["POLLER_RAW_BUCKET"])
    assert "Contents" not in listed


def test_submit_names_a_bucket_that_is_not_there(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    """The bucket in the settings does not exist: one line that names the variable, exit 2."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")

    refused = run_poller(settings_env | {"POLLER_RAW_BUCKET": "nope"}, "submit", str(video))

    assert refused.returncode == 2
    assert refused.stderr == "poller: there is no bucket nope: set POLLER_RAW_BUCKET\n"


async def test_submit_connects_before_it_uploads(
    settings_env: dict[str, str], clients: Clients, tmp_path: Path
) -> None:
    """`--wait` without a database that answers fails before anything is uploaded."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")
    away = settings_env | {"POLLER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}

    failed = run_poller(away, "submit", str(video), "--wait")

    assert failed.returncode == 1
    listed = await clients.s3.list_objects_v2(Bucket=settings_env["POLLER_RAW_BUCKET"])
    assert "Contents" not in listed


async def test_submit_waits_for_the_bytes_that_are_there_now(
    settings_env: dict[str, str], shop: Shop, tmp_path: Path
) -> None:
    """Of an object that was overwritten, the result of its earlier bytes is not shown."""
    key, where = "videos/2025/a.mp4", f"s3://{shop.bucket}/videos/2025/a.mp4"
    await shop.upload(make_clip(tmp_path / "old.mp4", seconds=3), key)
    async with running(settings_env, **QUICK):
        before = await wait_for(settings_env, where, "--video-id", "84")
        contradicted = await wait_for(settings_env, where, "--video-id", "85")

    await shop.upload(make_clip(tmp_path / "new.mp4", seconds=2), key)
    after = await wait_for(settings_env, where, "--timeout", "3")

    assert before.returncode == 0
    assert "0:03.000" in before.stdout
    assert after.returncode == 1
    assert "nobody took it up in time" in after.stdout
    assert contradicted.returncode == 1
    assert "identity_conflict: it is video 84 already, not 85" in contradicted.stdout
    assert "0:03.000" not in contradicted.stdout


@pytest.mark.parametrize(
    ("finished", "pipeline", "state", "code", "said"),
    [
        (timedelta(hours=1), "another", "done", 0, "0:01.500"),
        (timedelta(hours=-1), "another", "done", 0, "analysed before, by pipeline another"),
        (timedelta(hours=-1), "another", "failed", 1, "analysed before, by pipeline another"),
        # The service may run a bundle now, of which whoever asks knows nothing.
        (timedelta(hours=-1), PIPELINE, "done", 0, f"analysed before, by pipeline {PIPELINE}"),
    ],
)
async def test_submit_shows_what_a_service_of_another_version_found(
    settings_env: dict[str, str],
    shop: Shop,
    clients: Clients,
    database: "asyncpg.Connection[asyncpg.Record]",
    finished: timedelta,
    pipeline: str,
    state: str,
    code: int,
    said: str,
) -> None:
    """Its result is shown; one from before is called so, and is the answer if nobody begins."""
    made = await clients.s3.put_object(Bucket=shop.bucket, Key="k", Body=b"x")
    await store_video(database, "k", state, "84")
    await finish_by_another(database, shop.bucket, made["ETag"], finished)
    await database.execute("UPDATE analyses SET pipeline = $1", pipeline)

    waited = await wait_for(settings_env, f"s3://{shop.bucket}/k", "--timeout", "3")

    assert waited.returncode == code
    assert said in waited.stdout
    assert ("0:01.500" in waited.stdout) == (code == 0)


async def test_an_earlier_result_ends_the_wait(
    shop: Shop,
    clients: Clients,
    database: "asyncpg.Connection[asyncpg.Record]",
    database_url: str,
) -> None:
    """Once it has been quiet for a while, long before the timeout; not before that."""
    made = await clients.s3.put_object(Bucket=shop.bucket, Key="k", Body=b"x")
    await store_video(database, "k", "done", "84")
    await finish_by_another(database, shop.bucket, made["ETag"], timedelta(hours=-1))
    source, shown = Submission("k.mp4", None, shop.bucket, "k"), StringIO()
    connection = await connect(database_url)
    reports = Reports(connection)
    since = await reports.read_clock()
    begun = asyncio.get_running_loop().time()

    async with asyncio.timeout(30):
        code = await wait(
            Console(file=shown), reports, [source], None, since, 3600, hint_seconds=1.0
        )

    await connection.close()
    assert asyncio.get_running_loop().time() - begun >= 1.0
    assert code == 0
    assert "k.mp4: analysed before, by pipeline another" in shown.getvalue()


async def finish_by_another(
    database: "asyncpg.Connection[asyncpg.Record]", bucket: str, etag: str, finished: timedelta
) -> None:
    """Have the one analysis be that of another pipeline, of this object, finished so long ago."""
    await database.execute("UPDATE videos SET bucket = $1", bucket)
    await database.execute(
        "UPDATE analyses SET revision = $1, pipeline = 'another', done_at = now() + $2",
        etag.strip('"'),
        finished,
    )


async def test_waiting_for_nobody_is_noticed() -> None:
    """Where nothing happens, the watcher learns what must run, once."""
    shown = StringIO()

    async def look() -> dict[tuple[str, str], Row]:
        return {}

    await follow(Console(file=shown), look, {("b", "k"): "k"}, 1.5, hint_seconds=0.5)

    assert shown.getvalue().count(" run` must run for this queue") == 1


async def test_submit_waits_no_longer_than_told(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Where nobody takes the video up, `--wait` gives up with exit code 1 and says so."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")

    given_up = run_poller(settings_env, "submit", str(video), "--wait", "--timeout", "1")

    assert given_up.returncode == 1
    # Lines are broken where the path to the command is long.
    assert "pollerrun`run?" in "".join(given_up.stdout.split())


async def test_submit_says_what_an_outage_leaves(
    settings_env: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """When the database goes while it waits: what is announced is not lost."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"x")
    async with proxied(database_url) as (url, proxy):
        submitted = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "poller", "submit", str(video), "--wait"),
            env=settings_env | {"POLLER_DATABASE_URL": url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert submitted.stdout is not None
        async with asyncio.timeout(60):
            while not (await submitted.stdout.readline()).startswith(b"announced "):
                pass
        proxy.cut()
        shown, failed = await submitted.communicate()

    assert submitted.returncode == 1
    assert b"What is announced is analysed all the same" in shown
    assert b"postgres is unavailable" in failed


async def test_status_counts(
    settings_env: dict[str, str],
    database: "asyncpg.Connection[asyncpg.Record]",
    clients: Clients,
    dlq: str,
) -> None:
    """The overview counts analyses by state and messages by queue, and names what failed."""
    await store_video(database, "one.mp4", "done", "1")
    await store_video(database, "two.mp4", "failed", "2")
    await send_letter(clients, dlq, "{}", "not_json")

    shown = run_poller(settings_env, "status", "--json")
    table = run_poller(settings_env, "status")

    document = json.loads(shown.stdout)
    assert document["analyses"] == {"done": 1, "failed": 1}
    assert document["queues"]["dlq"]["visible"] == 1
    assert [row["object_key"] for row in document["unfinished"]] == ["two.mp4"]
    assert "not_a_video: it is a text" in table.stdout


async def test_status_shows_keys_in_one_piece(
    settings_env: dict[str, str], database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A long key can be copied from a terminal of 80 columns, brackets included."""
    key = f"videos/{'x' * 90}/[bold]a b.mp4"
    await store_video(database, key, "failed", "84")

    counted = run_poller(settings_env, "status", columns=80)
    shown = run_poller(settings_env, "status", "84", columns=80)

    assert f"s3://b/{key}\n" in counted.stdout
    assert f"s3://b/{key}\n" in shown.stdout


@pytest.mark.parametrize("name", ["84", "s3://b/videos/one.mp4", "videos/one.mp4", "uuid"])
async def test_status_finds_a_video_by_any_name(
    settings_env: dict[str, str], database: "asyncpg.Connection[asyncpg.Record]", name: str
) -> None:
    """A video is found by our uuid, the application's id, its URL and its key."""
    await store_video(database, "videos/one.mp4", "done", "84")
    await store_video(database, "videos/two.mp4", "done", "85")
    if name == "uuid":
        name = str(await database.fetchval("SELECT id FROM videos WHERE external_id = '84'"))

    shown = run_poller(settings_env, "status", name, "--json")
    table = run_poller(settings_env, "status", name)

    [video] = json.loads(shown.stdout)
    assert video["external_id"] == "84"
    assert [event["event_type"] for event in video["events"]] == ["black"]
    assert "1:05.250" in table.stdout


async def test_status_says_who_was_there(
    settings_env: dict[str, str],
    database: "asyncpg.Connection[asyncpg.Record]",
    database_url: str,
) -> None:
    """The same of the rows of `timeline` as of the analysis that `submit --wait` shows."""
    await store_video(database, "one.mp4", "done", "84")
    analysis_id = await database.fetchval(
        "INSERT INTO events (analysis_id, lease_token, seq, event_type, start_ms, end_ms, track_id,"
        " score, gender, gender_score, age, age_group)"
        " SELECT analysis_id, 1, 1, 'person', 0, 9000, 7, 0.9, 'female', 0.75, 31.6, 'middle'"
        " FROM done_analyses RETURNING analysis_id"
    )

    shown = run_poller(settings_env, "status", "84")
    connection = await connect(database_url)
    events = await Reports(connection).read_events(analysis_id)
    await connection.close()

    who = "track 7, female 75%, age 32 (middle)"
    assert who in shown.stdout
    assert "None" not in shown.stdout
    assert [", ".join(details(event)) for event in events] == [who, ""]


async def test_status_says_that_uploads_share_an_id(
    settings_env: dict[str, str], database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Each of them is shown, with what other programs know it and its analysis by."""
    await store_video(database, "one.mp4", "done", "84")
    await store_video(database, "two.mp4", "failed", "84")

    shared = run_poller(settings_env, "status", "84")
    alone = run_poller(settings_env, "status", "one.mp4")
    counted = run_poller(settings_env, "status")

    videos = await database.fetch("SELECT id FROM videos")
    assert "2 uploads are known as 84:\n" in shared.stdout
    assert all(f"video_id: {row['id']}\n" in shared.stdout for row in videos)
    assert "analysis_id: 1\n" in shared.stdout
    assert "uploads are known" not in alone.stdout
    assert "in flight or hidden" in counted.stdout


async def test_status_of_an_unknown_video_fails(settings_env: dict[str, str]) -> None:
    """A name that no video has is exit code 1."""
    assert run_poller(settings_env, "status", "nope").returncode == 1


async def wait_for(
    environment: dict[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """`poller submit --wait`, while this process goes on reading the service's log."""
    return await asyncio.to_thread(
        run_poller, environment, "submit", "--wait", "--timeout", "60", *arguments
    )


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [
        (["bundle", "check", "s3://b/people"], ""),
        (["bundle", "try", "s3://b/people", __file__], ""),
        (["search", "--image", __file__], "POLLER_MODEL=s3://b/people: "),
    ],
    ids=["check", "try", "search"],
)
def test_a_bundle_in_s3_needs_a_directory(arguments: list[str], prefix: str) -> None:
    """Where no temporary one can be written to: one line that says what to set, exit 2."""
    script = (
        "import sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc'];"
        "sys.modules['dill'] = None;"  # where it happens to be there, torch loads it, and it fails
        "from poller.__main__ import main; sys.argv[0] = 'poller'; main()"
    )

    refused = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        env={
            "PYTHONPATH": str(Path("src").resolve()),
            "POLLER_MODEL": "s3://b/people",
            "POLLER_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        },
    )

    line = "no temporary directory can be written to: let TMPDIR name one that can"
    assert refused.stderr == f"poller: {prefix}{line}\n"
    assert refused.returncode == 2
