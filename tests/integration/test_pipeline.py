"""The pipeline with one call of one part broken; all parts are the real ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.clips import make_clip
from tests.factories import make_message, make_request
from tests.integration.conftest import Systems
from tests.integration.test_heartbeat import SCHEDULE, make_claims

from inference.analyze import Analyzer
from inference.analyze import Limits as DecodeLimits
from inference.device import Device, Inferred
from inference.errors import DeviceFaultError
from inference.thumbnails import Photographer
from inference.wire import Arrays
from poller.gallery import Gallery
from poller.heartbeat import Heartbeats
from poller.pipeline import Limits, Pipeline
from poller.postgres.results import Patience, Results
from poller.rules.verdict import Duplicate, Failed, Interrupted, Outcome, Superseded
from poller.s3 import ObjectRevision, Objects
from poller.stages import Stages
from poller.workspace import open_workspace


class OverwrittenObjects(Objects):
    """The real S3, where the object is overwritten between HeadObject and GetObject."""

    async def head(self, bucket: str, key: str) -> ObjectRevision:
        """Resolve, then overwrite."""
        found = await super().head(bucket, key)
        await self._client.put_object(Bucket=bucket, Key=key, Body=b"new bytes")
        return found


def make_gallery(systems: Systems, bucket: str) -> Gallery:
    """What writes to a results bucket."""
    photographer = Photographer(systems.server, DecodeLimits(max_seconds=60))
    return Gallery(systems.objects, bucket, photographer, "p")


async def run(
    systems: Systems,
    device: Device | None = None,
    receive_count: int = 1,
    stages: Stages | None = None,
    patience: Patience | None = None,
    checkpoint_seconds: float = 60,
    results_bucket: str | None = None,
) -> Outcome:
    """Run the video `k` through a pipeline on these systems."""
    claims = make_claims(systems.connections)
    own = Device("cpu")  # which starts only if it is asked
    analyzer = Analyzer(
        device or own,
        systems.server,
        sample_fps=5.0,
        limits=DecodeLimits(max_seconds=60),
        batch_size=8,
        checkpoint_seconds=checkpoint_seconds,
    )
    with open_workspace(systems.directory) as workspace:
        pipeline = Pipeline(
            systems.objects,
            claims,
            Heartbeats(claims, systems.inbox, SCHEDULE),
            analyzer,
            Results(systems.connections, patience),
            workspace,
            Limits(max_video_bytes=10**9, max_attempts=3),
            None if results_bucket is None else make_gallery(systems, results_bucket),
        )
        message = make_message(receive_count=receive_count)
        try:
            return await pipeline.run(
                make_request(systems.bucket, "k"), message, stages or Stages()
            )
        finally:
            await own.close()


async def test_overwritten_between_event_and_fetch(systems: Systems) -> None:
    """The old revision is superseded; its message is deleted, the new one's does the work."""
    await systems.upload("k", b"old bytes")
    overwritten = replace(systems, objects=OverwrittenObjects(systems.objects._client))

    outcome = await run(overwritten)

    assert outcome == Superseded()
    assert await systems.connections.fetchval("SELECT state FROM analyses") == "superseded"


class WeakDevice(Device):
    """The real device, which fails when it has measured so many batches."""

    batches = 0

    async def infer(self, run: Any, header: Mapping[str, object], frames: Arrays) -> Inferred:
        """Measure, or fail."""
        self.batches -= 1
        if self.batches < 0:
            raise DeviceFaultError("weak", is_own=True)
        return await super().infer(run, header, frames)


async def test_faults_of_the_device_count_at_one_place(systems: Systems) -> None:
    """A fifth one behind new checkpoints is the first there; without any the video is failed."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=10)
    await systems.upload("k", clip.read_bytes())
    device, found = WeakDevice("cpu"), []

    for batches in (0, 0, 0, 0, 2, 0, 0, 0, 0):
        device.batches = batches
        outcome = await run(systems, device, checkpoint_seconds=0)
        faults = await systems.connections.fetchval("SELECT device_faults FROM analyses")
        found.append((type(outcome), faults))
    await device.close()

    interrupted = [(Interrupted, faults) for faults in (1, 2, 3, 4, 1, 2, 3, 4)]
    assert found == [*interrupted, (Failed, 5)]


async def test_a_device_that_does_not_come_up(systems: Systems) -> None:
    """The video is interrupted, however often, and neither an attempt nor a fault is counted."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=1)
    await systems.upload("k", clip.read_bytes())
    device = Device("cuda")  # there is none here

    outcomes = [await run(systems, device) for _ in range(6)]
    await device.close()

    row = await systems.connections.fetchrow(
        "SELECT state, attempts, device_faults, error_code FROM analyses"
    )
    assert row is not None
    assert outcomes == [Interrupted("device_unavailable", away="device")] * 6
    assert tuple(row) == ("retry", 0, 0, "device_unavailable")


async def test_a_failure_that_was_not_settled_is_settled_again(systems: Systems) -> None:
    """The message that led to the failure fails again; another one's video is a duplicate."""
    await systems.upload("k", b"no video")

    first = await run(systems)
    again = await run(systems, receive_count=2)
    await systems.connections.execute("UPDATE analyses SET lease_message_id = 'another'")
    other = await run(systems)

    assert isinstance(first, Failed)
    assert again == first
    assert first.reason == "not_a_video"
    assert other == Duplicate("failed")


async def test_attempts_run_out(systems: Systems) -> None:
    """After three attempts that left no word the video is failed, not tried a fourth time."""
    await systems.upload("k", b"bytes")
    await run(systems)
    await systems.connections.execute(
        "UPDATE analyses SET state = 'processing', attempts = 3, lease_expires_at = now()"
    )

    outcome = await run(systems)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.attempts) == ("attempts_exhausted", 4)
    assert (
        await systems.connections.fetchval("SELECT error_code FROM analyses")
        == "attempts_exhausted"
    )
