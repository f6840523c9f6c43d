"""What the pipeline writes down of a failure, with one call of one part broken."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tests.factories import make_request
from tests.integration.conftest import Systems, opened_pool
from tests.integration.test_claims import make_delivery, uploaded
from tests.integration.test_heartbeat import make_claims
from tests.integration.test_pipeline import run
from tests.proxy import proxied

from poller.errors import RetryableError
from poller.postgres.claims import Claimed, Content
from poller.rules.verdict import Failed, Postponed
from poller.s3 import ObjectRevision, Objects
from poller.stages import Stages


class UnreadableObjects(Objects):
    """The real S3, of which one object cannot be read."""

    async def fetch(self, *_: object) -> None:
        """Fail as S3 does for this object alone."""
        raise RetryableError("object_unreadable", "SlowRead")


class Fetching(Objects):
    """The real S3; something happens while an object is fetched."""

    meanwhile: Callable[[], None]

    async def fetch(
        self, revision: ObjectRevision, path: Path, on_chunk: Callable[[], None]
    ) -> None:
        """Fetch it, and let the thing happen."""
        await super().fetch(revision, path, on_chunk)
        self.meanwhile()


async def test_what_waits_of_a_missing_object_is_failed(systems: Systems) -> None:
    """An object that was deleted after its first attempt leaves no analysis that waits."""
    claims = make_claims(systems.connections)
    video = await claims.bind(make_request(systems.bucket, "k"))
    held = await claims.claim(video, Content("r", 1, uploaded(1)), make_delivery("first"))
    assert isinstance(held, Claimed)
    await claims.postpone(held, timedelta(hours=1), counted=True, reason="x", detail="y")

    outcome = await run(systems)

    assert isinstance(outcome, Failed)
    row = await systems.connections.fetchrow("SELECT state, error_code FROM analyses")
    assert row is not None
    assert tuple(row) == ("failed", outcome.reason) == ("failed", "object_missing")


async def test_a_missing_object_waits_for_postgres(database_url: str, systems: Systems) -> None:
    """Its message stays until the failure is written down."""
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        proxy.cut()

        outcome = await run(replace(systems, connections=connections))

    assert isinstance(outcome, Postponed)
    assert outcome.away == "postgres"


async def test_a_failure_waits_for_postgres(database_url: str, systems: Systems) -> None:
    """A file that is no video, found so while Postgres is away, is no dead letter yet."""
    await systems.upload("k", b"no video")
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        cutting = Fetching(systems.objects._client)
        cutting.meanwhile = proxy.cut

        outcome = await run(replace(systems, connections=connections, objects=cutting))

    assert isinstance(outcome, Postponed)
    assert outcome.away == "postgres"


async def test_the_time_of_a_failure_is_told(systems: Systems) -> None:
    """How long the decoder took to give up is seen like the time of a video that is analysed."""
    await systems.upload("k", b"no video")
    stages = Stages()

    await run(systems, stages=stages)

    assert stages.seconds.keys() == {"claim", "fetch", "decode"}
    assert stages.seconds["decode"] > 0


async def test_an_unreadable_object_uses_up_its_attempts(systems: Systems) -> None:
    """The fault may be its own: the attempt counts, and it waits before the next."""
    await systems.upload("k", b"bytes")
    unreadable = UnreadableObjects(systems.objects._client)

    outcome = await run(replace(systems, objects=unreadable))

    row = await systems.connections.fetchrow(
        "SELECT state, attempts, not_before > now() FROM analyses"
    )
    assert row is not None
    assert isinstance(outcome, Postponed)
    assert tuple(row) == ("retry", 1, True)


async def test_the_last_attempt_is_made(systems: Systems) -> None:
    """Three attempts are allowed: after two that left no word there is a third."""
    await systems.upload("k", b"no video")
    await run(systems)
    await systems.connections.execute(
        "UPDATE analyses SET state = 'processing', attempts = 2, lease_expires_at = now()"
    )

    outcome = await run(systems)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.attempts) == ("not_a_video", 3)
