"""Waiting out an outage: what the loop asks, when it goes on, and that it hears `stop`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.factories import make_application_body
from tests.factories_video import make_video
from tests.integration.conftest import Systems, opened_pool, receive_one
from tests.integration.test_heartbeat import until
from tests.integration.test_watch import Parts
from tests.proxy import proxied

from inference.device import Device
from poller.consumer import Consumer, Intake
from poller.pipeline import Pipeline
from poller.rules.message import VideoRequest
from poller.rules.verdict import Interrupted, Outcome, Postponed, Stored
from poller.s3 import Objects, open_client
from poller.sqs import Queue


class Away(Pipeline):
    """The real pipeline, to whose videos something happens; a system is away until it is not."""

    asked = 0
    is_over = False
    outcomes: list[Outcome]

    async def run(self, *_: object) -> Outcome:
        """End as told."""
        return self.outcomes.pop(0)

    async def is_back(self, *_: object) -> bool:
        """Answer as told."""
        self.asked += 1
        return self.is_over


@asynccontextmanager
async def consuming(consumer: Consumer) -> AsyncIterator[asyncio.Task[None]]:
    """Run the loop beside the body; it ends soon after `stop`."""
    loop = asyncio.create_task(consumer.run())
    try:
        yield loop
    finally:
        consumer.stop()
        async with asyncio.timeout(5):
            await loop


@pytest.fixture
async def parts(systems: Systems) -> Parts:
    """A consumer whose pipeline is told what happens."""
    return Parts(systems, kind=Away)


def pipeline_of(parts: Parts, *outcomes: Outcome) -> Away:
    """The pipeline of the parts, told how its next videos end."""
    pipeline = parts.consumer._pipeline
    assert isinstance(pipeline, Away)
    pipeline.outcomes = list(outcomes)
    return pipeline


@pytest.mark.parametrize(
    "outcome",
    [Postponed(timedelta(0), "s3_unavailable", "s3"), Interrupted("device_fault", "device")],
)
async def test_nothing_is_received_until_it_is_back(
    parts: Parts, inbox: Queue, outcome: Outcome
) -> None:
    """One message meets the outage; it is taken again, and another one, after the answer."""
    pipeline = pipeline_of(parts, outcome, Stored(), Stored())
    for key in ("a", "b"):
        await inbox.send(make_application_body(key=key))

    async with consuming(parts.consumer):
        await until(lambda: pipeline.asked >= 2)
        met = len(pipeline.outcomes)
        unready = await parts.watch.ready()
        pipeline.is_over = True
        await until(lambda: pipeline.outcomes == [])
        await until(lambda: parts.consumer.has_free_slot)

    assert met == 2
    assert unready == [f"{outcome.away} is unavailable"]  # type: ignore[union-attr] # both have one
    assert await parts.watch.ready() == []
    assert parts.consumer.faults_in_a_row == 0


async def test_a_long_outage_is_not_held_against_the_loop(parts: Parts, inbox: Queue) -> None:
    """The time without a receive counts from the end of the outage; before, it does not matter."""
    pipeline = pipeline_of(parts, Postponed(timedelta(hours=1), "s3_unavailable", "s3"))
    await inbox.send(make_application_body())
    consumer, healthy = parts.consumer, []

    async with consuming(consumer):
        await until(lambda: pipeline.asked >= 1)
        consumer.waiting_since -= 1000
        healthy.append(await parts.watch.alive())
        pipeline.is_over = True
        await until(lambda: consumer.outage is None)
        healthy.append(await parts.watch.alive())

    assert healthy == [[], []]


async def test_stop_is_heard_in_an_outage(parts: Parts, inbox: Queue) -> None:
    """However long the next pause is; and nothing is received any more."""
    pipeline_of(parts)
    consumer = parts.consumer
    consumer._intake = Intake(1, 20, 30, ())
    consumer.outage, consumer.faults_in_a_row = "s3", 1000
    consumer._missed = VideoRequest("b", "k", None)
    await inbox.send(make_application_body())

    async with consuming(consumer):
        await asyncio.sleep(0)  # the loop begins its pause

    assert (await receive_one(inbox)).receive_count == 1


async def test_the_system_that_was_away_is_asked(
    aws: dict[str, str], database_url: str, systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each system itself says whether it is back; an object that is gone is an answer, too."""
    bucket = systems.bucket
    asked = [("s3", bucket), ("s3", "test-no-such-bucket"), ("postgres", bucket)]
    async with (
        proxied(aws["AWS_ENDPOINT_URL"]) as (s3_url, s3_proxy),
        proxied(database_url) as (database, database_proxy),
        opened_pool(database) as connections,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
        async with open_client(read_timeout=2) as client:
            device = Device("cuda")  # there is none here
            behind = replace(systems, objects=Objects(client), connections=connections)
            pipeline, answers = Parts(behind, device=device).consumer._pipeline, []
            for is_away in (False, True, False):
                for proxy in (s3_proxy, database_proxy):
                    (proxy.cut if is_away else proxy.restore)()
                answers.append(
                    [await pipeline.is_back(name, VideoRequest(b, "k", None)) for name, b in asked]
                )
            is_up = await pipeline.is_back("device", VideoRequest(bucket, "k", None))
            await device.close()

    assert answers == [[True] * 3, [False] * 3, [True] * 3]
    assert not is_up


async def test_a_disk_that_refuses_is_asked(systems: Systems) -> None:
    """The disk is back when a job's directory can be made on it, with room for the video."""
    await systems.upload("k", b"-")
    directory = systems.directory / "work"
    pipeline = Parts(replace(systems, directory=directory)).consumer._pipeline
    request = VideoRequest(systems.bucket, "k", None)

    before = await pipeline.is_back("disk", request)
    directory.mkdir()
    after = await pipeline.is_back("disk", request)

    assert (before, after) == (False, True)


async def test_decoders_that_cannot_be_started(
    systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No video is to blame: the attempt is given back, and the work is done when they can be."""
    clip = make_video(systems.directory / "v.mp4")
    await systems.upload("k", clip.read_bytes())
    device = Device("cpu")
    await device.start()
    parts = Parts(systems, device=device)
    await systems.inbox.send(make_application_body(systems.bucket, "k"))
    read = "SELECT state, attempts, device_faults, error_code FROM analyses"

    with monkeypatch.context() as broken:
        broken.setattr("inference.child._BOOTSTRAP", "raise ImportError('libav is not there')")
        async with consuming(parts.consumer):
            await until(lambda: parts.consumer.faults_in_a_row >= 2, seconds=60)
            row, unready = await systems.connections.fetchrow(read), await parts.watch.ready()
            broken.undo()
            await until(lambda: parts.consumer.faults_in_a_row == 0, seconds=60)
    await parts.consumer.drain(20)
    await device.close()

    assert row is not None
    assert tuple(row) == ("retry", 0, 0, "decoder_unavailable")
    assert unready == ["decoder is unavailable"]
    assert await systems.connections.fetchval("SELECT state FROM analyses") == "done"
