"""Checkpoints in Postgres: what a video's next worker need not do again."""

from collections.abc import Sequence

import structlog

from inference.checkpoint import Part
from poller import metrics
from poller.errors import UnavailableError
from poller.postgres.claims import Claimed
from poller.postgres.pool import Pool, acquired, query

log = structlog.get_logger("poller.checkpoints")

_LOAD_SECONDS = 20.0
_SAVE_SECONDS = 5.0
"""The work stands still meanwhile, and a part that was not kept is in the next one."""


class Checkpoints:
    """The journal of one claim; written under its fencing token."""

    def __init__(self, pool: Pool, claim: Claimed) -> None:
        self._pool = pool
        self._claim = claim
        self._reached_ms = -1
        self.has_advanced = False
        """Whether this claim got further than all before it."""

    async def load(self) -> Sequence[Part]:
        """Return what was measured under earlier claims, and under this one.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with acquired(self._pool, seconds=_LOAD_SECONDS) as connection:
            rows = await connection.fetch(query("load_checkpoints"), self._claim.analysis_id)
        parts = [Part(**row) for row in rows]
        # A run that can use none of them replaces them from the first on: no further.
        self._reached_ms = max([self._reached_ms, *(round(part.position_ms) for part in parts)])
        return parts

    async def save(self, part: Part) -> bool:
        """Keep a part. Whether the lease is lost is for the heartbeat to find out."""
        claim = self._claim
        try:
            async with acquired(self._pool, seconds=_SAVE_SECONDS) as connection:
                is_further = await connection.fetchval(
                    query("save_checkpoint"),
                    claim.analysis_id,
                    claim.token,
                    part.number,
                    round(part.position_ms),
                    part.stretch,
                    part.carry,
                    self._reached_ms,
                )
        except UnavailableError as error:
            log.warning("checkpoint.not_saved", analysis_id=claim.analysis_id, error=str(error))
            return False
        if is_further is None:
            return False
        metrics.CHECKPOINTS.inc()
        self.has_advanced |= is_further
        return True
