"""The pipeline with one call of one part broken; all parts are the real ones."""

from dataclasses import replace

import pytest
from tests.clips import make_clip
from tests.factories import make_message, make_request
from tests.integration.conftest import Systems
from tests.integration.test_heartbeat import SCHEDULE, make_claims

from inference.analyze import Analyzer
from inference.analyze import Limits as DecodeLimits
from inference.device import Device
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


async def run(
    systems: Systems,
    device: Device | None = None,
    receive_count: int = 1,
    stages: Stages | None = None,
    patience: Patience | None = None,
) -> Outcome:
    """Run the video `k` through a pipeline on these systems."""
    claims = make_claims(systems.connections)
    device = device or Device("cpu")
    limits = DecodeLimits(max_seconds=60)
    analyzer = Analyzer(device, systems.server, sample_fps=5.0, limits=limits, batch_size=8)
    with open_workspace(systems.directory) as workspace:
        pipeline = Pipeline(
            systems.objects,
            claims,
            Heartbeats(claims, systems.inbox, SCHEDULE),
            analyzer,
            Results(systems.connections, patience),
            workspace,
            Limits(max_video_bytes=10**9, max_attempts=3),
        )
        message = make_message(receive_count=receive_count)
        return await pipeline.run(make_request(systems.bucket, "k"), message, stages or Stages())


async def test_overwritten_between_event_and_fetch(systems: Systems) -> None:
    """The old revision is superseded; its message is deleted, the new one's does the work."""
    await systems.upload("k", b"old bytes")
    overwritten = replace(systems, objects=OverwrittenObjects(systems.objects._client))

    outcome = await run(overwritten)

    assert outcome == Superseded()
    assert await systems.connections.fetchval("SELECT state FROM analyses") == "superseded"


@pytest.mark.parametrize(("faults", "state"), [(0, "retry"), (5, "failed")])
async def test_a_device_that_does_not_come_up(systems: Systems, faults: int, state: str) -> None:
    """The video is interrupted without counting the attempt; after many faults it is failed."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=1)
    await systems.upload("k", clip.read_bytes())
    device = Device("cuda")  # there is none here
    await run(systems, device)
    await systems.connections.execute(
        "UPDATE analyses SET device_faults = device_faults - 1 + $1", faults
    )

    outcome = await run(systems, device)
    await device.close()

    row = await systems.connections.fetchrow(
        "SELECT state, device_faults, error_code FROM analyses"
    )
    assert row is not None
    assert isinstance(outcome, Interrupted if state == "retry" else Failed)
    assert tuple(row) == (state, faults + 1, "device_fault")


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
