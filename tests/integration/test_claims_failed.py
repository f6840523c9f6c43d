"""What a failure writes down, on a real Postgres: about which video, and on whose behalf."""

from uuid import uuid4

from tests.factories import make_request
from tests.integration.test_claims import (
    LEASE,
    NO_LEASE,
    Database,
    granted,
    make_delivery,
    uploaded,
)

from poller.postgres.claims import Claimed, Content
from poller.postgres.pool import Pool
from poller.rules.failure import DEVICE_FAULT

NUL_AND_HALF_A_PAIR = "a \x00 and a \ud800"


async def granted_in(database: Database, bucket: str, key: str) -> Claimed:
    """Claim a video of a bucket."""
    worker = database.worker()
    video_id = await worker.bind(make_request(bucket, key))
    found = await worker.claim(video_id, Content("r1", 1000, uploaded(1)), make_delivery())
    assert isinstance(found, Claimed)
    return found


async def test_what_is_gone_fails_nothing_else(connections: Pool) -> None:
    """Of another object, another bucket or another pipeline nothing is failed."""
    database = Database(connections)
    others = [
        await granted_in(database, "b", "other"),
        await granted_in(database, "other", "gone"),
        await granted(database.worker(pipeline="q"), key="gone"),
    ]
    for held in others:
        await database.worker().postpone(held, LEASE, counted=False, reason="x", detail="y")

    await database.worker().fail_unheld(make_request(key="gone"), "object_missing", "gone", "m")

    states = [(await database.row(held.analysis_id))["state"] for held in others]
    assert states == ["retry", "retry", "retry"]


async def test_what_is_gone_fails_what_a_dead_worker_left(connections: Pool) -> None:
    """Its lease ran out; the message that found the object gone is the one that failed it."""
    database = Database(connections)
    abandoned = await granted(database.worker(NO_LEASE), make_delivery("first"), key="gone")

    await database.worker().fail_unheld(make_request(key="gone"), "object_missing", "gone", "m")

    row = await database.row(abandoned.analysis_id)
    assert (row["state"], row["lease_message_id"]) == ("failed", "m")


async def test_only_the_devices_faults_are_counted_as_such(connections: Pool) -> None:
    """They add up over attempts, and a message from the DLQ starts over without them."""
    database = Database(connections)
    worker = database.worker()
    for reason in (DEVICE_FAULT, "s3_unavailable", DEVICE_FAULT):
        held = await granted(worker)
        await worker.postpone(held, NO_LEASE, counted=False, reason=reason, detail="y")
    last = await granted(worker)
    await worker.fail(last, "x", "y")

    redriven = await granted(worker, make_delivery("redriven", is_redriven=True))

    assert last.device_faults == 2
    assert redriven.device_faults == 0


async def test_any_text_can_be_a_reason(connections: Pool) -> None:
    """What Postgres cannot store as text does not keep a failure from being written down."""
    database = Database(connections)
    held = await granted(database.worker(), make_delivery("m", uuid4()))

    await database.worker().fail(held, "x", NUL_AND_HALF_A_PAIR)

    assert (await database.row(held.analysis_id))["error_message"] == "a  and a ?"
