"""Checkpoints in Postgres: what a video's next worker need not do again."""

from collections.abc import Sequence

import structlog

from inference.checkpoint import JournalFullError, Part
from poller import metrics
from poller.errors import UnavailableError
from poller.postgres.claims import Claimed
from poller.postgres.pool import Pool, acquired, query

log = structlog.get_logger("poller.checkpoints")

LOAD_SECONDS = 20.0
"""For each part: to save it took at most a quarter of that."""
SAVE_SECONDS = 5.0
"""The work stands still meanwhile, and a part that was not kept is in the next one."""
PART_BYTES = 32 << 20
"""A part may be this large: four times what is cut at once, so much a save may be behind."""
TOTAL_BYTES = 256 << 20
"""All parts of a video: they are held in memory until the video is where they end."""


class Checkpoints:
    """The journal of one claim; written under its fencing token."""

    def __init__(self, pool: Pool, claim: Claimed) -> None:
        self._pool = pool
        self._claim = claim
        self._reached_ms = -1
        self._sizes: dict[int, int] = {}
        """Of the parts that are kept, in bytes, by number."""
        self._is_full = False
        self.has_advanced = False
        """Whether this claim got further than all before it."""

    async def load(self) -> Sequence[Part]:
        """Return what was measured under earlier claims, and under this one.

        Part by part, so that no statement takes longer for a longer video. Nothing where it is more
        than may be kept.

        Raises:
            UnavailableError: Postgres is away.
        """
        analysis_id = self._claim.analysis_id
        async with acquired(self._pool, seconds=LOAD_SECONDS) as connection:
            rows = await connection.fetch(query("list_checkpoints"), analysis_id)
        # A run that can use none of them replaces them from the first on: no further.
        self._reached_ms = max([self._reached_ms, *(row["position_ms"] for row in rows)])
        self._sizes = {row["number"]: row["size_bytes"] for row in rows}
        if not self._is_room_for(list(self._sizes.values())):
            return ()
        parts = []
        for number in self._sizes:
            async with acquired(self._pool, seconds=LOAD_SECONDS) as connection:
                row = await connection.fetchrow(query("load_checkpoint"), analysis_id, number)
            if row is None:
                return ()  # the analysis has ended elsewhere: the heartbeat finds out
            parts.append(Part(**row))
        return parts

    def _is_room_for(self, sizes: Sequence[int]) -> bool:
        """Whether parts of these sizes may be kept; where not, that is told once."""
        largest, total = max(sizes, default=0), sum(sizes)
        if largest <= PART_BYTES and total <= TOTAL_BYTES:
            return True
        if not self._is_full:
            self._is_full = True
            metrics.ERRORS.labels("checkpoint_too_large").inc()
            log.warning(
                "checkpoint.too_large",
                analysis_id=self._claim.analysis_id,
                part_bytes=largest,
                total_bytes=total,
            )
        return False

    async def save(self, part: Part) -> bool:
        """Keep a part. Whether the lease is lost is for the heartbeat to find out.

        Raises:
            JournalFullError: it is too large, or one too many; what was kept before stays.
        """
        claim = self._claim
        self._sizes = {number: size for number, size in self._sizes.items() if number < part.number}
        if not self._is_room_for([*self._sizes.values(), len(part.stretch)]):
            raise JournalFullError
        try:
            async with acquired(self._pool, seconds=SAVE_SECONDS) as connection:
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
        self._sizes[part.number] = len(part.stretch)
        metrics.CHECKPOINTS.inc()
        self.has_advanced |= is_further
        return True
