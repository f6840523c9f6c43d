"""The wiring: what `poller run` starts, watches and stops."""

import asyncio
import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from datetime import UTC, datetime, timedelta

import structlog

from inference.analyze import Analyzer
from inference.analyze import Limits as DecodeLimits
from inference.bundle import Bundle
from inference.confinement import missing
from inference.device import Device
from inference.errors import DecodersUnavailableError, DeviceFaultError, ModelRefusedError
from inference.events import pipeline_of
from inference.forkserver import ForkServer
from inference.thumbnails import Photographer
from poller import ecs, health, imds, logs, metrics, s3, sqs
from poller.bundles import obtained_bundle
from poller.consumer import Consumer, Intake
from poller.errors import SettingsError, UnavailableError
from poller.gallery import Gallery
from poller.heartbeat import Heartbeats
from poller.pipeline import Limits, Pipeline
from poller.postgres import migrations, pool
from poller.postgres.claims import Claims
from poller.postgres.results import Results
from poller.protection import Protection
from poller.rules.lease import Schedule
from poller.rules.protection import EXPIRY, Terms, plan_leaving
from poller.s3 import Objects
from poller.secretsmanager import DatabaseAddress
from poller.settings import Settings, find_unknown, require
from poller.settle import Settlement
from poller.sqs import Queue
from poller.watch import Vitals, Watch, watch_queues
from poller.workspace import open_workspace

log = structlog.get_logger("poller.service")


def run(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT, then drain.

    Raises:
        SettingsError: it cannot start like this; nothing was touched.
        UnavailableError: the queue is out of reach.
    """
    require(settings, "queue_url", "database")
    logs.configure(settings.log_level, settings.log_format)
    for name, meant in find_unknown(os.environ).items():
        log.warning("setting.unknown", name=name, nearest=meant)
    asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Start, work until told to stop, and drain. Raises as `run` does."""
    async with AsyncExitStack() as stack:
        try:
            with cancelled_on_signal():
                consumer = await _startup(settings, stack)
        except asyncio.CancelledError:
            log.info("service.stopped", during="start")
            return
        _stop_on_signal(consumer)
        await consumer.run()
        await consumer.drain(settings.drain_seconds)
    log.info("service.stopped")


async def _startup(settings: Settings, stack: AsyncExitStack) -> Consumer:
    enter = stack.enter_async_context
    # What is quickly checked comes first: the device takes seconds to start.
    listener = stack.enter_context(health.reserved(settings.http_port))
    vitals = Vitals()
    port = await enter(health.serve(listener, vitals.alive, vitals.ready, vitals.refresh))
    workspace = stack.enter_context(open_workspace(settings.work_dir))
    long_poll = await enter(
        sqs.open_client(read_timeout=settings.wait_time_seconds + 5, attempts=1)
    )
    prompt = await enter(sqs.open_client(read_timeout=10))
    assert settings.queue_url is not None  # noqa: S101 - `require` has seen to it
    if settings.model.startswith("s3://"):  # which may take minutes
        log.info("service.starting", http_port=port, fetching=settings.model)
    bundle = await enter(obtained_bundle(settings.model, settings.work_dir))
    pipeline = pipeline_of("builtin" if bundle is None else bundle.title)
    dlq_url = await sqs.check_queue(prompt, settings.queue_url, settings.dlq_url)
    queue, dead_letters = Queue(prompt, settings.queue_url), Queue(prompt, dlq_url)

    address = DatabaseAddress(settings.database_url, settings.database_secret_arn)
    await _check_migrations(address)
    work_pool = await enter(pool.opened(address.url, max_size=settings.max_concurrent_videos + 1))
    owner = f"{socket.gethostname()}:{os.getpid()}"
    claims = Claims(work_pool, owner=owner, lease=settings.lease, pipeline=pipeline)
    beating = await enter(pool.opened(address.url, max_size=2))
    heartbeats = await _open_heartbeats(
        settings, stack, Claims(beating, owner=owner, lease=settings.lease, pipeline=pipeline)
    )
    device = await enter(_started_device(settings, bundle))
    server = await enter(_started_server())
    objects = Objects(await enter(s3.open_client()))
    protection = await _protection(settings, stack)
    consumer = Consumer(
        Queue(long_poll, settings.queue_url),
        Pipeline(
            objects,
            claims,
            heartbeats,
            _analyzer(settings, device, server, bundle),
            Results(work_pool),
            workspace,
            Limits(settings.max_video_bytes, settings.max_attempts),
            await _checked_gallery(settings, objects, server, pipeline),
        ),
        Settlement(queue, dead_letters),
        Intake(
            settings.max_concurrent_videos,
            settings.wait_time_seconds,
            settings.visibility_seconds,
            settings.allowed_buckets,
        ),
        protection,
    )
    await enter(protection.kept(lambda: _stop(consumer, "protection denied")))
    await enter(_watched_spot(consumer))
    watch = Watch(
        consumer,
        heartbeats,
        claims,
        device,
        wait_seconds=settings.wait_time_seconds,
        lease_seconds=settings.lease_seconds,
    )
    stack.enter_context(vitals.of(watch))
    await enter(watch_queues({"main": queue, "dlq": dead_letters}))
    for lack in missing():
        log.warning("decoder.cage_incomplete", without=lack)
    log.info("service.started", http_port=port, queue_url=settings.queue_url, owner=owner)
    return consumer


async def _open_heartbeats(settings: Settings, stack: AsyncExitStack, claims: Claims) -> Heartbeats:
    # With a client and connections of their own, which no long poll and no COPY delays.
    client = await stack.enter_async_context(sqs.open_client(read_timeout=5, attempts=1))
    return Heartbeats(
        claims,
        Queue(client, settings.queue_url or ""),
        Schedule(settings.lease, timedelta(seconds=settings.heartbeat_seconds)),
    )


async def _protection(settings: Settings, stack: AsyncExitStack) -> Protection:
    uri = os.environ.get("ECS_AGENT_URI")
    agent = await stack.enter_async_context(ecs.open_agent(uri)) if uri else None
    return Protection(
        agent, Terms(EXPIRY.total_seconds(), idle_seconds=settings.protection_idle_seconds)
    )


async def _check_migrations(address: DatabaseAddress) -> None:
    try:
        missing = await migrations.pending(await address.url())
    except UnavailableError as error:
        # An outage at start is an outage like any other: /readyz says so until it is over.
        log.warning("database.unavailable", error=str(error), next="retrying until it answers")
        return
    if missing:
        raise SettingsError([f"the database lacks migrations {missing}: run `poller migrate`"])


@asynccontextmanager
async def _started_device(settings: Settings, bundle: Bundle | None) -> AsyncIterator[Device]:
    # On a CPU a second thread gains a tenth and, when the decoders keep the cores busy, costs ten
    # times as much: each operation waits for a thread that has no core.
    device = Device(
        settings.device,
        threads=1,
        bundle=None if bundle is None else bundle.root,
        # Not the setting's default: what suits the models differs between CPU and CUDA.
        batch_size=settings.batch_size if "batch_size" in settings.model_fields_set else None,
        batch_wait_ms=settings.batch_wait_ms,
    )
    try:
        await device.start()
        yield device
    except ModelRefusedError as error:
        raise SettingsError([f"POLLER_MODEL={settings.model}: {error}"]) from error
    except DeviceFaultError as error:
        raise SettingsError([f"POLLER_DEVICE={settings.device}: {error}"]) from error
    finally:
        await device.close()


@asynccontextmanager
async def _started_server() -> AsyncIterator[ForkServer]:
    def note(event: str, detail: str) -> None:
        log.warning(event, detail=detail)
        if event == "decoder.server_restarted":
            metrics.DECODER_SERVER_RESTARTS.inc()

    async with ForkServer(note) as server:
        try:
            await server.start()
        except DecodersUnavailableError as error:
            raise SettingsError([f"decoders cannot be started: {error}"]) from error
        yield server


def _analyzer(
    settings: Settings, device: Device, server: ForkServer, bundle: Bundle | None
) -> Analyzer:
    return Analyzer(
        device,
        server,
        sample_fps=settings.sample_fps,
        limits=_decode_limits(settings),
        batch_size=settings.batch_size,
        checkpoint_seconds=settings.checkpoint_seconds,
        manifest=None if bundle is None else bundle.manifest,
    )


def _decode_limits(settings: Settings) -> DecodeLimits:
    return DecodeLimits(
        max_seconds=settings.max_video_seconds,
        stall_seconds=settings.decoder_stall_seconds,
        memory_bytes=settings.decoder_memory_bytes,
    )


async def _checked_gallery(
    settings: Settings, objects: Objects, server: ForkServer, pipeline: str
) -> Gallery | None:
    """Better no start than to find out after the first video's work that nothing can be written."""
    if settings.results_bucket is None:
        return None
    photographer = Photographer(server, _decode_limits(settings))
    gallery = Gallery(objects, settings.results_bucket, photographer, pipeline)
    await gallery.check()
    return gallery


@contextmanager
def cancelled_on_signal() -> Iterator[None]:
    """Give up the start: the first process of a container would not even hear SIGTERM otherwise.

    What comes later changes nothing: who has given up, or failed, closes what it had opened.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def cancel() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        loop.add_signal_handler(signal.SIGTERM, lambda: None)


def _stop_on_signal(consumer: Consumer) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, consumer, number.name)


def _watched_spot(consumer: Consumer) -> AbstractAsyncContextManager[None]:
    loop = asyncio.get_running_loop()

    def leave(notice: imds.Notice) -> None:
        left = plan_leaving(notice.at, datetime.now(UTC)).total_seconds()
        log.warning("spot.notice", action=notice.action, at=notice.at.isoformat())
        _stop(consumer, "spot notice", by=loop.time() + left)

    return imds.watch_spot(imds.find_endpoint(os.environ), leave)


def _stop(consumer: Consumer, cause: str, by: float = math.inf) -> None:
    if consumer.stopped_at is None:
        left = consumer.receive_seconds_left
        awaited = None if left is None else f"awaited for at most {math.ceil(left)} s"
        log.info("service.draining", cause=cause, open_receive=awaited)
    consumer.stop(by)
