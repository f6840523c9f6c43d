"""Outages, interruptions, wrong settings: the service as a process, behind a proxy."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.proxy import proxied
from tests.running import Service, running

from poller.local.resources import Clients

STORED = ("stored",)


async def becomes(service: Service, path: str, status: int, seconds: float = 30) -> str:
    """Ask an endpoint until it answers with a status; returns its text."""
    async with asyncio.timeout(seconds):
        while True:
            found, text = await service.get(path)
            if found == status:
                return text
            await asyncio.sleep(0.2)


async def test_postgres_away(shop: Shop, settings_env: dict[str, str], tmp_path: Path) -> None:
    """The message is hidden, the service stays up and says so; afterwards the work is done."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")

    async with (
        proxied(settings_env["POLLER_DATABASE_URL"]) as (url, proxy),
        running(settings_env, database_url=url) as service,
    ):
        await becomes(service, "/readyz", 200)
        proxy.cut()
        await shop.announce("a.mp4")
        await service.logged("video.finished", verdict="hide", outcomes=("postponed",))
        unready = await becomes(service, "/readyz", 503)
        alive, _ = await service.get("/healthz")
        proxy.restore()
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        await becomes(service, "/readyz", 200)

    assert "postgres" in unready
    assert alive == 200
    assert (await shop.analysis("a.mp4"))["attempts"] == 1


async def test_s3_away(shop: Shop, settings_env: dict[str, str], tmp_path: Path) -> None:
    """As with Postgres; no attempt is counted for an outage."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")

    async with (
        proxied(settings_env["AWS_ENDPOINT_URL"]) as (url, proxy),
        running({**settings_env, "AWS_ENDPOINT_URL_S3": url}) as service,
    ):
        await becomes(service, "/readyz", 200)
        proxy.cut()
        await shop.announce("a.mp4")
        await service.logged("video.finished", verdict="hide", outcomes=("postponed",))
        unready = await becomes(service, "/readyz", 503)
        proxy.restore()
        await service.logged("video.finished", outcomes=STORED, seconds=90)

    assert "s3" in unready
    assert (await shop.analysis("a.mp4"))["attempts"] == 1
    assert await shop.depth(dlq=True) == (0, 0)


async def test_sqs_away(shop: Shop, settings_env: dict[str, str], tmp_path: Path) -> None:
    """The loop goes on asking, and works when the queue is back."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")

    async with (
        proxied(settings_env["AWS_ENDPOINT_URL"]) as (url, proxy),
        running({**settings_env, "AWS_ENDPOINT_URL_SQS": url}) as service,
    ):
        await service.logged("service.started")
        proxy.cut()
        await service.logged("queue.unavailable")
        await becomes(service, "/readyz", 503)
        proxy.restore()
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        await becomes(service, "/readyz", 200)


async def test_a_busy_video_keeps_its_message(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Held by another worker: hidden for the rest of its lease and jitter, never deleted."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")
    async with running(settings_env) as service:
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=STORED)
        await shop.database.execute(
            "WITH gone AS (DELETE FROM events), gone_too AS (DELETE FROM embeddings)"
            " UPDATE analyses SET state = 'processing', done_token = NULL, lease_id ="
            " gen_random_uuid(), lease_expires_at = clock_timestamp() + interval '60 s'"
        )
        await shop.announce("a.mp4")
        (line,) = await service.logged("video.finished", outcomes=("busy",))

    assert line["verdict"] == "hide"
    assert 55 <= line["hidden_seconds"] <= 75
    assert await shop.depth() == (0, 1)
    assert await shop.depth(dlq=True) == (0, 0)


@pytest.mark.parametrize("state", ["failed", "superseded"])
async def test_terminal_videos_are_duplicates(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, state: str
) -> None:
    """What is failed or superseded already is deleted and counted, and stays as it is."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")
    async with running(settings_env) as service:
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=STORED)
        await shop.database.execute(
            "WITH gone AS (DELETE FROM events), gone_too AS (DELETE FROM embeddings)"
            " UPDATE analyses SET state = $1, done_token = NULL",
            state,
        )
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=("duplicate",), verdict="ack")
        counted = await service.metric("poller_duplicates_total", outcome=state)

    assert counted == 1
    assert (await shop.analysis("a.mp4"))["state"] == state
    assert await shop.depth() == (0, 0)


async def test_sigterm_releases_what_it_cannot_finish(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """The work is given back at once, no attempt is counted, nothing is left, exit status 0."""
    await shop.upload(make_clip(tmp_path / "long.mp4", seconds=60, size="640x360"), "long.mp4")
    await shop.announce("long.mp4")

    (tmp_path / "work").mkdir()
    async with running(
        settings_env, sample_fps="all", drain_seconds="13", work_dir=str(tmp_path / "work")
    ) as service:
        await service.started_decoding()
        service.freeze_decoders()
        children = service.children("")
        status = await service.stop()
        again = await shop.take()
        left = [child for child in children if child.is_running() and child.status() != "zombie"]

    assert status == 0
    assert json.loads(again["body"])["s3"]["key"] == "long.mp4"
    row = await shop.analysis("long.mp4")
    assert (row["state"], row["attempts"]) == ("retry", 0)
    assert left == []
    assert list((tmp_path / "work").iterdir()) == []


async def test_a_killed_worker_is_replaced(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL in the middle of the work: another worker takes over, and there is one result."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=60, size="640x360"), "a.mp4")
    await shop.announce("a.mp4", 84)
    quick = {"lease_seconds": "3", "heartbeat_seconds": "1", "sample_fps": "all"}
    quick["visibility_seconds"] = "35"  # should it die before its first beat

    async with running(settings_env, **quick) as killed:
        await killed.started_decoding()
        killed.freeze_decoders()
        children = killed.children("")
        await killed.stop(signal.SIGKILL)
    async with running(settings_env, **quick) as service:
        await service.logged("video.finished", outcomes=STORED, seconds=120)
        await service.stop()

    row = await shop.analysis("a.mp4")
    tokens = await shop.database.fetch("SELECT DISTINCT lease_token FROM events")
    assert (row["state"], row["attempts"], row["external_id"]) == ("done", 2, "84")
    assert [tuple(token) for token in tokens] == [(2,)]
    assert not any(child.is_running() and child.status() != "zombie" for child in children)
    assert await shop.depth() == (0, 0)


async def test_sigterm_finishes_what_it_can(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """A video that needs a few seconds more gets them; what arrives meanwhile is left alone."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=20, size="640x360"), "a.mp4")
    await shop.announce("a.mp4")

    async with running(settings_env, sample_fps="all") as service:
        await service.started_decoding()
        stopping = asyncio.create_task(service.stop())
        await service.logged("service.draining", open_receive="awaited for at most 1 s")
        await shop.announce("a.mp4", 84)
        status = await stopping
        again = await shop.take()

    assert status == 0
    assert (await shop.analysis("a.mp4"))["state"] == "done"
    assert json.loads(again["body"])["video"] == {"id": 84}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"heartbeat_seconds": "90"}, "POLLER_HEARTBEAT_SECONDS (90) must be below"),
        ({"visibility_seconds": "119"}, "POLLER_VISIBILITY_SECONDS (119) must be at least"),
        (
            {"sample_fps": "often"},
            "POLLER_SAMPLE_FPS: must be `all`, `auto`, `keyframes`, or frames",
        ),
        ({"http_port": "99999"}, "POLLER_HTTP_PORT"),
        ({"queue_url": ""}, "set POLLER_QUEUE_URL"),
        ({"database_url": ""}, "set POLLER_DATABASE_URL"),
        ({"queue_url": "http://127.0.0.1:1/000000000000/x.fifo"}, "is a FIFO queue"),
        ({"model": "mine"}, "POLLER_MODEL"),
        ({"database_url": "mysql://h/d"}, "POLLER_DATABASE_URL: must look like postgresql://"),
        ({"database_url": "postgresql://h:no/d"}, "POLLER_DATABASE_URL"),
        ({"queue_url": "uploads"}, "POLLER_QUEUE_URL: must be the queue's URL"),
        ({"work_dir": "/dev/null/x"}, "POLLER_WORK_DIR=/dev/null/x: there is no such directory"),
        ({"work_dir": "/proc"}, "POLLER_WORK_DIR=/proc: "),
        ({"drain_seconds": "12.9"}, "POLLER_DRAIN_SECONDS (12.9) must be at least 12 more"),
    ],
)
async def test_wrong_settings(
    settings_env: dict[str, str], changed: dict[str, str], said: str
) -> None:
    """One clear line and exit status 2, before anything is touched."""
    async with running(settings_env, **changed) as service:
        async with asyncio.timeout(30):
            status = await service.process.wait()
        await service.logged(service.lines[0]["event"])

    assert status == 2
    assert [line["event"].startswith("poller: ") for line in service.lines] == [True]
    assert said in service.lines[0]["event"]


async def test_a_setting_that_means_nothing(settings_env: dict[str, str]) -> None:
    """It is logged, with the one that was probably meant, and the service runs all the same."""
    async with running(settings_env, devise="cpu") as service:
        await service.logged("setting.unknown", name="POLLER_DEVISE", nearest="POLLER_DEVICE")
        await service.logged("service.started")
        _, metrics = await service.get("/metrics")

    assert "_created" not in metrics


async def test_a_queue_without_a_dlq(settings_env: dict[str, str], clients: Clients) -> None:
    """There would be nowhere to put what cannot be analysed: refused at the start."""
    made = await clients.sqs.create_queue(QueueName="test-without-dlq")

    async with running(settings_env, queue_url=made["QueueUrl"], dlq_url="") as service:
        async with asyncio.timeout(30):
            status = await service.process.wait()
        await service.stop()
    await clients.sqs.delete_queue(QueueUrl=made["QueueUrl"])

    assert status == 2
    assert "has no dead-letter queue" in service.lines[0]["event"]


async def test_a_port_that_is_taken(settings_env: dict[str, str]) -> None:
    """One line that names the setting, before anything else is started or asked."""
    away = {"queue_url": "http://127.0.0.1:1/0/q", "database_url": "postgresql://u@127.0.0.1:1/d"}
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - as the service does
        port = str(taken.getsockname()[1])
        async with running(settings_env, http_port=port, **away) as service:
            async with asyncio.timeout(60):
                status = await service.process.wait()
            await service.stop()

    assert status == 2
    assert f"POLLER_HTTP_PORT={port}: " in service.lines[-1]["event"]


async def test_no_region(settings_env: dict[str, str]) -> None:
    """One line that names the variable."""
    bare = {k: v for k, v in settings_env.items() if k not in ("AWS_DEFAULT_REGION", "AWS_REGION")}

    async with running({**bare, "AWS_CONFIG_FILE": "/dev/null"}) as service:
        async with asyncio.timeout(30):
            status = await service.process.wait()
        await service.stop()

    assert status == 2
    assert "AWS_DEFAULT_REGION" in service.lines[0]["event"]


async def test_a_queue_that_is_not_there(settings_env: dict[str, str]) -> None:
    """A wrong name is a wrong setting, not an outage."""
    missing = settings_env["POLLER_QUEUE_URL"] + "-no"

    async with running(settings_env, queue_url=missing) as service:
        async with asyncio.timeout(30):
            status = await service.process.wait()
        await service.stop()

    assert status == 2
    assert f"there is no queue {missing}" in service.lines[0]["event"]


async def test_a_database_that_is_not_migrated(
    settings_env: dict[str, str], database_url: str, shop: Shop
) -> None:
    """The line names the command that helps."""
    assert database_url
    await shop.database.execute("DELETE FROM alembic_version")

    async with running(settings_env) as service:
        async with asyncio.timeout(30):
            status = await service.process.wait()
        await service.stop()

    assert status == 2
    assert "poller migrate`" in service.lines[0]["event"]
