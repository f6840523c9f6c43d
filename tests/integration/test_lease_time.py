"""How long the heartbeat believes in its lease, and what it does once its receipt is lost."""

import asyncio

from tests.factories import make_message
from tests.integration.test_heartbeat import LEASE, SCHEDULE, claim_new, make_claims, until

from poller.heartbeat import Heartbeats
from poller.postgres.claims import Claimed, Claims
from poller.postgres.pool import Pool
from poller.sqs import Queue, StaleReceiptError


class Slow(Claims):
    """The real claims, where the answer to a beat takes a while."""

    began = 0.0

    async def extend(self, claim: Claimed, progress: float) -> None:
        """Beat, and answer 0.3 s later."""
        self.began = asyncio.get_running_loop().time()
        await super().extend(claim, progress)
        asyncio.get_running_loop().call_later(0.3, (answered := asyncio.Event()).set)
        await answered.wait()


async def test_the_lease_counts_from_the_question(connections: Pool, inbox: Queue) -> None:
    """Postgres may have read its clock long before the answer came."""
    claims = Slow(connections, owner="test", lease=LEASE, pipeline="p")
    held = await claim_new(claims)

    async with Heartbeats(claims, inbox, SCHEDULE).hold(held, make_message()) as beat:
        first = beat.lease_until
        await until(lambda: beat.lease_until > first)
        believed, began = beat.lease_until, claims.began

    assert believed <= began + LEASE.total_seconds() + 0.05


class Refusing(Queue):
    """The real queue, which knows the receipt no more; counts how often it was asked."""

    asked = 0

    async def hide(self, *_: object) -> None:
        """Refuse."""
        self.asked += 1
        raise StaleReceiptError("the receipt handle has expired")


async def test_a_lost_receipt_is_not_tried_again(connections: Pool, inbox: Queue) -> None:
    """Another worker may have the message: only the first beat asks for it."""
    claims = make_claims(connections)
    held = await claim_new(claims)
    refusing = Refusing(inbox._client, inbox.url)

    async with Heartbeats(claims, refusing, SCHEDULE).hold(held, make_message()) as beat:
        first = beat.lease_until
        await until(lambda: beat.lease_until >= first + 1)

    assert refusing.asked == 1
