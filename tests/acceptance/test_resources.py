"""Full, slow and throttled: what the service leans on gives way, and it goes on by itself."""

import asyncio
import os
import resource
import signal
import time
from pathlib import Path

import psutil
from tests.acceptance.conftest import Shop
from tests.acceptance.test_faults import STORED, becomes
from tests.clips import make_clip
from tests.gateway import throttling
from tests.proxy import proxied
from tests.running import Service, running

POSTPONED = ("postponed",)


def make_noise(path: Path) -> Path:
    """A clip of some megabytes: more than fits into the buffers on the way."""
    return make_clip(path, "-vf", "noise=alls=40:allf=t", "-qp", "18", seconds=4, size="640x360")


def limit_files(service: Service, size_bytes: int) -> None:
    """Let the service write no larger file from now on: a quota, without a disk to fill."""
    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


async def inferring(service: Service) -> None:
    """Wait until frames are on the device; a metric has no event to wait for."""
    async with asyncio.timeout(60):
        while not await service.metric("poller_frames_inferred_total"):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)


async def assert_once(shop: Shop, key: str) -> None:
    """The video is done at its first counted attempt; no message is left anywhere."""
    row = await shop.analysis(key)
    tokens = await shop.database.fetch("SELECT DISTINCT lease_token FROM events")
    assert (row["state"], row["attempts"], len(tokens)) == ("done", 1, 1)
    assert await shop.depth() == (0, 0)
    assert await shop.depth(dlq=True) == (0, 0)


async def test_the_disk_fills_while_fetching(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """A write is refused in the middle: hidden, no attempt counted, nothing left on the disk."""
    await shop.upload(make_noise(tmp_path / "clip.mp4"), "a.mp4")
    work = tmp_path / "work"
    work.mkdir()

    async with running(settings_env, work_dir=str(work)) as service:
        await service.logged("service.started")
        await becomes(service, "/readyz", 200)
        limit_files(service, 1 << 20)
        await shop.announce("a.mp4")
        await service.logged("video.given_back", cause="disk_unavailable")
        await service.logged("video.finished", verdict="hide", outcomes=POSTPONED)
        unready = await becomes(service, "/readyz", 503)
        alive, _ = await service.get("/healthz")
        left = list(work.glob("*/*/video"))
        limit_files(service, resource.RLIM_INFINITY)
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        await becomes(service, "/readyz", 200)
        await service.stop()

    assert "disk" in unready
    assert (alive, left) == (200, [])
    await assert_once(shop, "a.mp4")


async def test_a_database_that_never_answers(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """It accepts and stays silent: given up in bounded time, and asked again until it answers."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")

    async with (
        proxied(settings_env["POLLER_DATABASE_URL"]) as (url, proxy),
        running(settings_env, database_url=url) as service,
    ):
        await service.logged("service.started")
        await becomes(service, "/readyz", 200)
        proxy.hold()
        await shop.announce("a.mp4")
        await service.logged("video.given_back", cause="postgres_unavailable", seconds=60)
        await service.logged("video.finished", verdict="hide", outcomes=POSTPONED)
        unready = await becomes(service, "/readyz", 503)
        alive, _ = await service.get("/healthz")
        proxy.restore()
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        await becomes(service, "/readyz", 200)
        await service.stop()

    assert "postgres" in unready
    assert alive == 200
    await assert_once(shop, "a.mp4")


async def test_a_body_that_stalls(shop: Shop, settings_env: dict[str, str], tmp_path: Path) -> None:
    """Bytes stop coming, the connection stays: given up after 30 s without one, then fetched."""
    await shop.upload(make_noise(tmp_path / "clip.mp4"), "a.mp4")

    async with (
        proxied(settings_env["AWS_ENDPOINT_URL"]) as (url, proxy),
        running({**settings_env, "AWS_ENDPOINT_URL_S3": url}) as service,
    ):
        await service.logged("service.started")
        await becomes(service, "/readyz", 200)
        proxy.hold_after(1 << 20)
        await shop.announce("a.mp4")
        started = time.monotonic()
        await service.logged("video.given_back", cause="s3_unavailable", seconds=80)
        await service.logged("video.finished", outcomes=POSTPONED)
        waited = time.monotonic() - started
        unready = await becomes(service, "/readyz", 503)
        alive, _ = await service.get("/healthz")
        proxy.restore()
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        await becomes(service, "/readyz", 200)
        await service.stop()

    assert "s3" in unready
    assert (alive, waited < 60) == (200, True)
    await assert_once(shop, "a.mp4")


async def test_a_queue_that_throttles(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Receives are refused with 400: said in the log and by `/readyz`, and asked again, slower."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")

    async with (
        throttling(settings_env["AWS_ENDPOINT_URL"]) as (url, gateway),
        running({**settings_env, "AWS_ENDPOINT_URL_SQS": url}) as service,
    ):
        await service.logged("service.started")
        gateway.throttle("ReceiveMessage")
        (line, *_) = await service.logged("queue.unavailable", times=3)
        unready = await becomes(service, "/readyz", 503)
        refusals = gateway.refusals
        gateway.restore()
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=STORED, seconds=90)
        await becomes(service, "/readyz", 200)
        await service.stop()

    assert "Throttled" in line["error"]
    assert "sqs" in unready
    assert refusals < 20
    await assert_once(shop, "a.mp4")


async def test_a_queue_that_throttles_what_is_said_of_a_message(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Neither kept nor deleted: the video is stored once, and its message goes when it returns."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=1), "a.mp4")
    quick = {"lease_seconds": "3", "heartbeat_seconds": "1", "visibility_seconds": "35"}

    async with (
        throttling(settings_env["AWS_ENDPOINT_URL"]) as (url, gateway),
        running({**settings_env, "AWS_ENDPOINT_URL_SQS": url}, **quick) as service,
    ):
        await service.logged("video.finished", outcomes=())  # the bucket's own test event
        gateway.throttle("DeleteMessage", "ChangeMessageVisibility", "SendMessage")
        await shop.announce("a.mp4")
        await service.logged("video.finished", outcomes=STORED, seconds=60)
        kept = await shop.depth()
        gateway.restore()
        await service.logged("video.finished", outcomes=("duplicate",), seconds=80)
        await service.stop()

    assert kept == (0, 1)
    assert gateway.refusals > 1
    await assert_once(shop, "a.mp4")


async def test_the_device_dies_in_the_middle(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL: a new device process, the same service, the video done, no attempt counted."""
    await shop.upload(make_clip(tmp_path / "clip.mp4", seconds=240, size="640x360"), "a.mp4")

    async with running(settings_env, sample_fps="all") as service:
        await service.logged("service.started")
        (device,) = service.children("inference.device_main")
        await shop.announce("a.mp4")
        await inferring(service)
        os.kill(device.pid, signal.SIGKILL)
        (line, *_) = await service.logged("video.finished", outcomes=("interrupted",))
        await service.logged("video.finished", outcomes=STORED, seconds=120)
        alive, _ = await service.get("/healthz")
        restarts = await service.metric("poller_device_restarts_total")
        (second,) = service.children("inference.device_main")
        up = service.process.returncode is None
        await service.stop()

    assert (line["verdict"], line["hidden_seconds"]) == ("hide", 0)
    assert (up, alive, restarts) == (True, 200, 1)
    assert second.pid != device.pid
    assert not psutil.pid_exists(second.pid)
    await assert_once(shop, "a.mp4")
