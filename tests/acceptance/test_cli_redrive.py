"""`poller redrive`: dead letters go back whole, and only those that are asked for."""

import asyncio
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import aioboto3
import asyncpg
import pytest
from moto.server import ThreadedMotoServer
from tests.acceptance.conftest import Shop
from tests.commands import count_all, receive_all, run_poller, send_letter, store_video
from tests.factories import make_application_body
from tests.running import running

from poller.local.resources import Clients, QueuePair


@pytest.fixture
def secretsmanager() -> Iterator[str]:
    """The endpoint of a Secrets Manager."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_redrive_by_reason(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """Letters with the reason go back whole; the others are left, and are visible at once."""
    await send_letter(clients, queues.dlq_url, make_application_body(key="a"), "object_missing")
    await send_letter(clients, queues.dlq_url, make_application_body(key="b"), "not_a_video")

    moved = run_poller(settings_env, "redrive", "--reason", "object_missing")

    assert moved.returncode == 0, moved.stderr
    back = [m for m in await receive_all(clients, queues.url) if "MessageAttributes" in m]
    assert [m["Body"] for m in back] == [make_application_body(key="a")]
    texts = {k: v["StringValue"] for k, v in back[0]["MessageAttributes"].items()}
    assert texts == {
        "reason": "object_missing",
        "detail": "a sentence",
        "attempts": "3",
        "tenant": "t1",
    }
    left = await receive_all(clients, queues.dlq_url)
    assert [m["Body"] for m in left] == [make_application_body(key="b")]


async def test_redrive_dry_run_moves_nothing(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """A dry run counts by reason and leaves every letter visible where it was."""
    for number in range(12):  # more than one receive
        await send_letter(clients, queues.dlq_url, f"{number}", "not_json")

    counted = run_poller(settings_env, "redrive", "--dry-run")

    assert re.search(r"not_json\s*│\s*12\s*│\s*0", counted.stdout)
    assert len(await receive_all(clients, queues.dlq_url)) == 12


async def test_a_dry_run_says_what_each_letter_is(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """Its reason, video and detail; of a body that names no video, how it begins."""
    await send_letter(clients, queues.dlq_url, make_application_body(key="a"), "object_missing")
    await send_letter(clients, queues.dlq_url, "[bold]not\njson" * 50, "not_json")
    for number in range(25):
        await send_letter(clients, queues.dlq_url, f"{number}", "no_records")

    told = run_poller(settings_env, "redrive", "--dry-run").stdout.splitlines()
    chosen = run_poller(settings_env, "redrive", "--dry-run", "--reason", "object_missing")

    assert told[-1] == "and 7 more"
    assert chosen.stdout.splitlines()[-1] == "object_missing: s3://b/a: a sentence"
    (unread,) = run_poller(
        settings_env, "redrive", "--dry-run", "--reason", "not_json"
    ).stdout.splitlines()[-1:]
    assert unread.startswith(r"not_json: '[bold]not\njson[bold]")
    assert unread.endswith(": a sentence")
    assert 200 < len(unread) < 260


async def test_letters_are_dropped(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """Those that are named, and no others; they come back nowhere."""
    await send_letter(clients, queues.dlq_url, make_application_body(key="a"), "not_a_video")
    await send_letter(clients, queues.dlq_url, make_application_body(key="b"), "object_missing")

    refused = run_poller(settings_env, "redrive", "--drop")
    dry = run_poller(settings_env, "redrive", "--drop", "--reason", "not_a_video", "--dry-run")
    dropped = run_poller(settings_env, "redrive", "--drop", "--reason", "not_a_video")

    assert refused.returncode == 2
    assert "--drop: say which, by --reason or --video" in refused.stderr
    assert re.search(r"would drop.*\n.*\n.*not_a_video\s*│\s*1\s*│\s*0", dry.stdout), dry.stdout
    assert re.search(r"not_a_video\s*│\s*1\s*│\s*0", dropped.stdout)
    left = await receive_all(clients, queues.dlq_url)
    assert [m["Body"] for m in left] == [make_application_body(key="b")]
    assert not [m for m in await receive_all(clients, queues.url) if "MessageAttributes" in m]


@pytest.mark.parametrize("video", ["84", "videos/x/a.mp4", "s3://b/videos/x/a.mp4"])
async def test_redrive_by_video(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair, video: str
) -> None:
    """Only the letters that announce the video go back; an unreadable letter announces none."""
    wanted = make_application_body(key="videos/x/a.mp4", video_id=84)
    for body in (wanted, make_application_body(key="videos/x/b.mp4", video_id=85), "no json 84"):
        await send_letter(clients, queues.dlq_url, body, "too_large")

    run_poller(settings_env, "redrive", "--video", video)

    back = [m for m in await receive_all(clients, queues.url) if "MessageAttributes" in m]
    assert [m["Body"] for m in back] == [wanted]
    assert await count_all(clients, queues.dlq_url) == 2


async def test_redrive_by_an_id_that_only_the_database_knows(
    settings_env: dict[str, str],
    database: "asyncpg.Connection[asyncpg.Record]",
    clients: Clients,
    queues: QueuePair,
) -> None:
    """A letter without the id goes back when the database binds the id to its object."""
    await store_video(database, "videos/x/a.mp4", "failed", "84")
    wanted = make_application_body(bucket="b", key="videos/x/a.mp4")
    await send_letter(clients, queues.dlq_url, wanted, "not_a_video")

    run_poller(settings_env, "redrive", "--video", "84")

    back = [m for m in await receive_all(clients, queues.url) if "MessageAttributes" in m]
    assert [m["Body"] for m in back] == [wanted]


async def test_redrive_ends_beside_a_running_service(
    settings_env: dict[str, str], shop: Shop, tmp_path: Path
) -> None:
    """Videos that fail again at once come back as new letters, which are not moved once more."""
    text = tmp_path / "text.mp4"
    text.write_text("this is no video")
    keys = [f"videos/{number}/text.mp4" for number in range(3)]

    async with running(settings_env) as service:
        for key in keys:
            await shop.upload(text, key)
            await shop.announce(key)
        await service.logged("video.finished", reason="not_a_video", times=3)
        moved = await asyncio.to_thread(
            run_poller, settings_env, "redrive", "--reason", "not_a_video"
        )
        await service.logged("video.finished", reason="not_a_video", times=6)

    assert moved.returncode == 0, moved.stderr
    assert re.search(r"not_a_video\s*│\s*3\s*│\s*0", moved.stdout)


async def test_interrupted_redrive_says_what_it_moved(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """Ctrl-C ends it with the table of what was moved so far; every letter is somewhere."""
    for number in range(60):
        await send_letter(clients, queues.dlq_url, f"{number}", "not_json")
    redrive = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "poller", "redrive"),
        env=settings_env,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        # S3's test event, a letter that was counted, and one that may not have been.
        while await count_all(clients, queues.url) < 3:  # noqa: ASYNC110 - SQS has no event
            await asyncio.sleep(0.01)

    redrive.send_signal(signal.SIGINT)
    shown, _ = await redrive.communicate()

    assert re.search(r"not_json\s*│\s*[0-9]+\s*│", shown.decode())
    assert await count_all(clients, queues.dlq_url) + await count_all(clients, queues.url) >= 60


async def test_redrive_of_a_video_asks_the_database_of_the_secret(
    settings_env: dict[str, str],
    secretsmanager: str,
    database: "asyncpg.Connection[asyncpg.Record]",
    clients: Clients,
    queues: QueuePair,
) -> None:
    """A deployment names its database by a secret alone: our uuid is found there too."""
    await store_video(database, "videos/x/a.mp4", "failed", "84")
    video_id = str(await database.fetchval("SELECT id FROM videos"))
    await send_letter(
        clients, queues.dlq_url, make_application_body("b", "videos/x/a.mp4"), "too_long"
    )
    name = f"database-{uuid4()}"
    environment = settings_env | {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": secretsmanager,
        "POLLER_DATABASE_SECRET_ARN": name,
    }
    async with aioboto3.Session().client("secretsmanager", endpoint_url=secretsmanager) as client:
        await client.create_secret(Name=name, SecretString=environment.pop("POLLER_DATABASE_URL"))

    moved = run_poller(environment, "redrive", "--video", video_id)

    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert await count_all(clients, queues.dlq_url) == 0


def test_redrive_of_a_video_wants_a_database(settings_env: dict[str, str]) -> None:
    """Without a database our uuids mean nothing: both settings are named, exit 2."""
    del settings_env["POLLER_DATABASE_URL"]

    refused = run_poller(settings_env, "redrive", "--video", str(uuid4()))

    assert refused.returncode == 2
    assert "POLLER_DATABASE_URL or POLLER_DATABASE_SECRET_ARN" in refused.stderr


async def test_redrive_that_matches_nothing_names_the_reasons_there_are(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """A reason that no letter has, such as a misspelt one, is exit 1 and those there are."""
    await send_letter(clients, queues.dlq_url, "{}", "not_a_video")

    missed = run_poller(settings_env, "redrive", "--reason", "nonsense")

    assert missed.returncode == 1
    assert "nothing matched; the DLQ holds: not_a_video 1" in missed.stdout


async def test_redrive_names_what_has_no_room(
    settings_env: dict[str, str], clients: Clients, queues: QueuePair
) -> None:
    """A letter that is as long as the queue allows stays: exit 1, and what to do about it."""
    for url in (queues.url, queues.dlq_url):
        await clients.sqs.set_queue_attributes(
            QueueUrl=url, Attributes={"MaximumMessageSize": "1024"}
        )
    await clients.sqs.send_message(QueueUrl=queues.dlq_url, MessageBody="x" * 1024)

    kept = run_poller(settings_env, "redrive")

    assert kept.returncode == 1
    assert "1 stay: " in kept.stdout
    assert "MaximumMessageSize" in kept.stdout
    assert await count_all(clients, queues.dlq_url) == 1
