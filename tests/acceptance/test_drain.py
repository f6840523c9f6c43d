"""The drain: what is held keeps its lease, and what still arrives goes to somebody else."""

import asyncio
import json
from pathlib import Path

from tests.acceptance.conftest import Shop
from tests.clips import make_clip
from tests.proxy import proxied
from tests.running import running

LEASE_SECONDS = 3


async def test_heartbeats_outlive_sigterm(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Work that takes longer than the lease is finished in the drain, and nobody takes it over."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=2), "a.mp4")
    await shop.announce("a.mp4")
    quick = {"lease_seconds": str(LEASE_SECONDS), "heartbeat_seconds": "1"}
    remaining = (
        "SELECT extract(epoch FROM lease_expires_at - clock_timestamp())::float FROM analyses"
    )

    async with proxied(settings_env["AWS_ENDPOINT_URL"]) as (url, proxy):
        proxy.hold_requests_at(b"GET /")
        async with running({**settings_env, "AWS_ENDPOINT_URL_S3": url}, **quick) as service:
            await proxy.held()
            stopping = asyncio.create_task(service.stop())
            await service.logged("service.draining")
            drained_at = asyncio.get_running_loop().time()
            left = []
            while asyncio.get_running_loop().time() < drained_at + 2 * LEASE_SECONDS:
                left.append(await shop.database.fetchval(remaining))
                await asyncio.sleep(0.2)
            proxy.restore()
            status = await stopping

    assert status == 0
    assert min(left) > 0
    row = await shop.analysis("a.mp4")
    assert (row["state"], row["attempts"]) == ("done", 1)


async def test_sigterm_while_the_device_starts(settings_env: dict[str, str]) -> None:
    """Nothing has begun, and nothing is waited for, however long the models take to load."""
    async with running(settings_env) as service:
        while not (children := service.children("inference.device_main")):  # noqa: ASYNC110 - a process list has no event
            await asyncio.sleep(0.01)
        children[0].suspend()

        status = await service.stop(seconds=30)

        assert status == 0
        assert not children[0].is_running()
        await service.logged("service.stopped", during="start")


async def test_what_the_open_poll_still_gets(shop: Shop, settings_env: dict[str, str]) -> None:
    """A message sent just after SIGTERM is in another worker's hands within two seconds."""
    async with running(settings_env, wait_time_seconds="10") as service:
        await service.logged("video.finished", verdict="ack")  # of the bucket's test event
        stopping = asyncio.create_task(service.stop())
        await service.logged("service.draining")
        await shop.announce("a.mp4")
        again = await shop.take(seconds=2)
        status = await stopping

    assert status == 0
    assert json.loads(again["body"])["s3"]["key"] == "a.mp4"
    assert await shop.depth() == (0, 1)
