"""What `/healthz` and `/readyz` say while a server does not answer."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from tests.factories import make_message
from tests.integration.conftest import Systems, opened_pool
from tests.integration.test_heartbeat import claim_new, make_claims
from tests.proxy import proxied

from inference.analyze import Analyzer
from inference.analyze import Limits as DecodeLimits
from inference.device import Device
from poller import metrics, sqs
from poller.consumer import Consumer, Intake
from poller.heartbeat import Heartbeats
from poller.pipeline import Limits, Pipeline
from poller.postgres.results import Results
from poller.protection import Protection
from poller.rules.lease import Schedule
from poller.rules.protection import Terms
from poller.settle import Settlement
from poller.sqs import Queue
from poller.watch import Watch
from poller.workspace import Workspace


async def faults(watch: Watch, word: str, seconds: float) -> str:
    """Wait until it is no longer alive for a reason with this word in it."""
    async with asyncio.timeout(seconds):
        while True:
            for fault in await watch.alive():
                if word in fault:
                    return fault
            await asyncio.sleep(0.1)


class Parts:
    """A consumer and its watch on given connections."""

    def __init__(
        self,
        systems: Systems,
        *,
        device: Device | None = None,
        kind: type[Pipeline] = Pipeline,
        sample_fps: float | None = 5.0,
    ) -> None:
        inbox, claims = systems.inbox, make_claims(systems.connections)
        self.device = device = device or Device("cpu")
        self.heartbeats = Heartbeats(
            claims, inbox, Schedule(timedelta(seconds=8), timedelta(seconds=0.5))
        )
        pipeline = kind(
            systems.objects,
            claims,
            self.heartbeats,
            Analyzer(
                device,
                systems.server,
                sample_fps=sample_fps,
                limits=DecodeLimits(max_seconds=60),
                batch_size=8,
            ),
            Results(systems.connections),
            Workspace(systems.directory),
            Limits(10**9, 3),
        )
        self.consumer = Consumer(
            inbox,
            pipeline,
            Settlement(inbox, inbox),
            Intake(1, 1, 30, ()),
            Protection(None, Terms(3600, 45)),
        )
        self.watch = Watch(
            self.consumer, self.heartbeats, claims, device, wait_seconds=1, lease_seconds=4
        )


async def test_a_queue_that_does_not_answer(
    aws: dict[str, str], systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No receive completes although a slot is free: only a restart may help."""
    async with proxied(aws["AWS_ENDPOINT_URL"]) as (url, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        async with sqs.open_client(read_timeout=2, attempts=1) as client:
            parts = Parts(replace(systems, inbox=Queue(client, systems.inbox.url)))
            loop = asyncio.create_task(parts.consumer.run())
            before = await parts.watch.alive()
            proxy.hold()

            fault = await faults(parts.watch, "receive", 25)
            proxy.restore()
            parts.consumer.stop()
            await loop

    assert before == []
    assert "slot is free" in fault


async def test_a_heartbeat_that_is_late(database_url: str, systems: Systems) -> None:
    """By half a lease, because Postgres does not answer; readiness says so too."""
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        parts = Parts(replace(systems, connections=connections))
        held = await claim_new(make_claims(connections, timedelta(seconds=60)))
        async with parts.heartbeats.hold(held, make_message()):
            before = await parts.watch.alive(), await parts.watch.ready()
            proxy.hold()

            fault = await faults(parts.watch, "late", 10)
            unready = await parts.watch.ready()
            parts.consumer.outage = "postgres"
            known = await parts.watch.ready()
            proxy.restore()

    assert before == ([], [])
    assert "heartbeat" in fault
    assert unready == known == ["postgres does not answer"]


async def test_what_is_waited_for_can_be_read_off_the_gauges(systems: Systems) -> None:
    """Which system is away, how long the slowest video stands still, how many slots there are."""
    parts = Parts(systems)
    held = await claim_new(make_claims(systems.connections, timedelta(seconds=60)))
    parts.consumer.outage = "s3"
    async with parts.heartbeats.hold(held, make_message()) as beat:
        beat.progressed_at -= 700

        parts.watch.refresh()

    outages = {
        system: REGISTRY.get_sample_value("poller_outage", {"system": system})
        for system in metrics.SYSTEMS
    }
    still = REGISTRY.get_sample_value("poller_still_seconds")
    assert still is not None
    assert still >= 700
    assert outages == {system: system == "s3" for system in metrics.SYSTEMS}
    assert REGISTRY.get_sample_value("poller_slots") == 1
