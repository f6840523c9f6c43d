"""`poller redrive`: dead letters go back whole, and only those that are asked for."""

import re

import asyncpg
import pytest
from tests.commands import count_all, receive_all, run_poller, send_letter, store_video
from tests.factories import make_application_body

from poller.local.resources import Clients, QueuePair


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
