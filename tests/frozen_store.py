"""A store that stands still in the middle of its COPY, as a frozen process does."""

import asyncio
import threading

import asyncpg

from poller.errors import LeaseLostError
from poller.postgres.claims import Claimed
from poller.postgres.results import Patience, Results
from tests.integration.conftest import opened_pool
from tests.integration.test_claims import make_analysis

_EVENTS = 3
_PATIENCE = 600.0
"""Seconds; far more than any machine needs: that a test hangs is all that this is for."""


class KilledError(Exception):
    """A worker died in the middle of a store."""


class FrozenStore:
    """A store by a process that stands still in the middle of its COPY."""

    def __init__(self, url: str, results: type[Results], claim: Claimed) -> None:
        self.error: Exception | None = None
        self._reached = threading.Event()
        self._going_on = threading.Event()
        self._dead = False
        self._thread = threading.Thread(target=self._run, args=(url, results, claim), daemon=True)
        self._thread.start()
        if not self._reached.wait(_PATIENCE):
            raise AssertionError("no row was ever asked for")

    def go_on(self, *, dead: bool = False) -> Exception | None:
        """Let it finish, or die; returns what came of it."""
        self._dead = dead
        self._going_on.set()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            raise AssertionError("it never came to its end")
        return self.error

    def _run(self, url: str, results: type[Results], claim: Claimed) -> None:
        try:
            asyncio.run(self._store(url, results, claim))
        except (LeaseLostError, KilledError, asyncpg.ForeignKeyViolationError) as error:
            self.error = error
        finally:
            self._reached.set()

    async def _store(self, url: str, results: type[Results], claim: Claimed) -> None:
        async with opened_pool(url) as pool:
            store = results(pool, Patience(base_seconds=_PATIENCE)).store
            await store(claim, make_analysis(_EVENTS), self._stand_still)

    def _stand_still(self) -> None:
        self._reached.set()
        self._going_on.wait(_PATIENCE)
        if self._dead:
            raise KilledError
