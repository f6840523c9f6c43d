"""Claims whose reply is lost, on a real Postgres: what was done is not done twice."""

from typing import Any

import pytest
from tests.integration.conftest import opened_pool
from tests.integration.test_claims import LEASE, NO_LEASE, granted
from tests.proxy import proxied

from poller.errors import UnavailableError
from poller.postgres.claims import Claimed, Claims, Held, Terminal
from poller.postgres.pool import Pool


class LostReply(Claims):
    """The real claims, where the first reply to a claim or a release is lost on the way."""

    lost = False

    async def _claim_once(self, *arguments: Any) -> Claimed | Held | Terminal:
        found = await super()._claim_once(*arguments)
        self._lose()
        return found

    async def _release(self, *arguments: Any, **more: Any) -> None:
        await super()._release(*arguments, **more)
        self._lose()

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            raise UnavailableError("postgres", "the reply is lost")


async def test_a_claim_without_a_reply_is_repeated(connections: Pool) -> None:
    """The repetition finds our own grant: one token, one attempt."""
    worker = LostReply(connections, owner="w", lease=LEASE, pipeline="p")

    held = await granted(worker)

    assert worker.lost
    assert (held.token, held.attempts) == (1, 1)


async def test_an_attempt_is_given_back_once(connections: Pool) -> None:
    """The release arrived and only its reply was lost: nothing is owed any more."""
    worker = LostReply(connections, owner="w", lease=LEASE, pipeline="p")
    worker.lost = True
    first = await granted(worker)
    worker.lost = False
    with pytest.raises(UnavailableError):
        await worker.postpone(first, NO_LEASE, counted=False, reason="x", detail="y")

    second = await granted(worker)

    assert (second.token, second.attempts) == (first.token + 1, 1)


async def test_an_attempt_of_its_own_stays_counted_in_an_outage(database_url: str) -> None:
    """A video's own fault counts although Postgres was away when it was to be written down."""
    async with proxied(database_url) as (url, proxy), opened_pool(url) as connections:
        worker = Claims(connections, owner="w", lease=NO_LEASE, pipeline="p")
        first = await granted(worker)
        proxy.cut()
        with pytest.raises(UnavailableError):
            await worker.postpone(first, NO_LEASE, counted=True, reason="x", detail="y")
        proxy.restore()

        second = await granted(worker)

    assert second.attempts == 2
