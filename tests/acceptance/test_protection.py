"""The service as an ECS task: protected while it works, gone when it is wanted gone."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.ecs_agent import BLOCKED, GARBAGE, EcsAgent, ecs_agent
from tests.instance_metadata import instance_metadata
from tests.running import running

STORED = ("stored",)


@pytest.fixture
async def agent() -> AsyncIterator[EcsAgent]:
    """The task's ECS agent, which says yes."""
    async with ecs_agent() as agent:
        yield agent


async def test_protected_before_the_claim_until_idle(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, agent: EcsAgent
) -> None:
    """One call protects two videos in a row, before the first is claimed; one releases."""
    await shop.upload(make_clip(tmp_path / "clip.mp4"), "a.mp4")
    await shop.upload(tmp_path / "clip.mp4", "b.mp4")
    replied: list[datetime] = []

    async def reply() -> None:
        await asyncio.sleep(1)  # time enough for a claim that does not wait
        replied.append(await shop.database.fetchval("SELECT clock_timestamp()"))

    agent.on_call = reply
    environment = {**settings_env, "ECS_AGENT_URI": agent.uri}
    async with running(environment, protection_idle_seconds="4") as service:
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=STORED)
        await shop.announce("b.mp4")
        await service.logged("video.finished", outcomes=STORED, times=2)
        working = await service.metric("poller_task_protection")
        calls = await agent.called(2)
        await service.logged("protection.changed", call="release")
        idle = await service.metric("poller_task_protection")

    claimed = await shop.database.fetchval("SELECT min(created_at) FROM analyses")
    assert calls == [
        {"ProtectionEnabled": True, "ExpiresInMinutes": 60},
        {"ProtectionEnabled": False},
    ]
    assert claimed > replied[0]
    assert (working, idle) == (1, 0)


async def test_a_denied_task_gives_way(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, agent: EcsAgent
) -> None:
    """The message is in other hands within seconds, no attempt was made, and it leaves with 0."""
    agent.reply = BLOCKED
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")
    environment = {**settings_env, "ECS_AGENT_URI": agent.uri}
    async with running(environment) as service:
        await service.logged("service.started")
        await shop.announce("a.mp4")
        await agent.called(1)
        again = await shop.take(seconds=5)
        async with asyncio.timeout(20):
            status = await service.process.wait()
        await service.logged("service.draining", cause="protection denied")

    assert status == 0
    assert json.loads(again["body"])["s3"]["key"] == "a.mp4"
    assert len(agent.calls) == 1
    assert await shop.database.fetchval("SELECT count(*) FROM analyses") == 0
    assert await shop.depth(dlq=True) == (0, 0)


@pytest.mark.parametrize("fault", ["away", "silent", "garbage"])
async def test_a_failing_agent_fails_no_video(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, agent: EcsAgent, fault: str
) -> None:
    """It is worked on without protection; the failure is counted."""
    agent.is_silent = fault == "silent"
    agent.reply = GARBAGE
    uri = "http://127.0.0.1:1/api/x" if fault == "away" else agent.uri
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")
    await shop.announce("a.mp4")

    async with running({**settings_env, "ECS_AGENT_URI": uri}) as service:
        await service.logged("video.finished", outcomes=STORED)
        counted = await service.metric("poller_errors_total", kind="ecs")
        protected = await service.metric("poller_task_protection")

    assert (await shop.analysis("a.mp4"))["state"] == "done"
    assert counted >= 1
    assert protected == 0


async def test_a_spot_notice_drains(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """By the notice's deadline, whatever SIGTERM says after it: the work is given back, exit 0."""
    await shop.upload(make_clip(tmp_path / "long.mp4", seconds=60, size="640x360"), "long.mp4")
    async with instance_metadata() as metadata:
        environment = {
            **settings_env,
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint,
        }
        async with running(environment, sample_fps="all", drain_seconds="110") as service:
            await shop.announce("long.mp4")
            await service.started_decoding()
            service.freeze_decoders()
            end = datetime.now(UTC) + timedelta(seconds=25)
            metadata.take_away(end)
            await service.logged("service.draining", cause="spot notice")
            status = await service.stop(seconds=40)
            left_at = datetime.now(UTC)
            again = await shop.take()

    assert status == 0
    assert left_at < end
    assert json.loads(again["body"])["s3"]["key"] == "long.mp4"
    row = await shop.analysis("long.mp4")
    assert (row["state"], row["attempts"]) == ("retry", 0)
