"""Storing results: COPY, then the fence, then COMMIT."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
from pgvector import HalfVector

from inference.analyze import Analysis
from inference.events import Embedding, Event
from poller.errors import LeaseLostError, RetryableError, UnavailableError
from poller.postgres.checkpoints import Checkpoints
from poller.postgres.claims import Claimed
from poller.postgres.pool import Connection, Pool, acquired, query

_KEY_COLUMNS = ("analysis_id", "lease_token", "seq")
EVENT_COLUMNS = (
    *_KEY_COLUMNS, "event_type", "start_ms", "end_ms", "score", "track_id",
    "bbox_x", "bbox_y", "bbox_w", "bbox_h", "age", "age_group", "gender", "gender_score",
    "attributes", "thumbnail_key",
)  # fmt: skip
EMBEDDING_COLUMNS = (
    *_KEY_COLUMNS, "kind", "start_ms", "end_ms", "track_id", "model", "embedding",
)  # fmt: skip
_SILENT_SECONDS = 30.0
"""By how much our own patience outlasts the server's, so that it is the server who says it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one statement of a store may take."""

    base_seconds: float = 60.0
    row_seconds: float = 0.02
    """For each row: into an index that fits into memory, one takes a twentieth of that."""

    def seconds(self, rows: int) -> float:
        """For a transaction that writes so many rows."""
        return self.base_seconds + self.row_seconds * rows


class Results:
    """What an analysis found, written once, under the claim's fencing token."""

    def __init__(self, pool: Pool, patience: Patience | None = None) -> None:
        self._pool = pool
        self._patience = patience or Patience()

    def journal(self, claim: Claimed) -> Checkpoints:
        """Where the parts of this claim's analysis are kept until it is stored."""
        return Checkpoints(self._pool, claim)

    async def store(
        self, claim: Claimed, analysis: Analysis, on_row: Callable[[], None] = lambda: None
    ) -> None:
        """Write all rows and mark the analysis done, in one transaction.

        `on_row` is called as rows are handed over.

        Raises:
            LeaseLostError: the fence refused; nothing was stored.
            RetryableError: `store_timeout`, Postgres is there and too slow; nothing was stored.
            UnavailableError: Postgres is away and nothing was stored.
        """
        results = analysis.results
        seconds = self._patience.seconds(len(results.events) + len(results.embeddings))
        started = asyncio.get_running_loop().time()
        try:
            async with acquired(self._pool) as connection, connection.transaction():
                # Local to the transaction, so that it ends with it behind PgBouncer, too.
                await connection.execute(
                    "SELECT set_config('statement_timeout', $1, true)", f"{seconds * 1000:.0f}"
                )
                await self._write(connection, claim, analysis, seconds + _SILENT_SECONDS, on_row)
        except UnavailableError as error:
            # The reply to COMMIT may be all that was lost.
            if await self._is_stored(claim):
                return
            took = asyncio.get_running_loop().time() - started
            if isinstance(error.__cause__, asyncpg.QueryCanceledError) and took >= seconds:
                raise RetryableError(
                    "store_timeout", f"Postgres took more than {seconds:.0f} s for the rows"
                ) from error
            raise

    async def _write(
        self,
        connection: Connection,
        claim: Claimed,
        analysis: Analysis,
        timeout: float,  # noqa: ASYNC109 - asyncpg's own, for each of the two
        on_row: Callable[[], None],
    ) -> None:
        results = analysis.results
        await connection.copy_records_to_table(
            "events",
            columns=EVENT_COLUMNS,
            records=_told(event_rows(claim, results.events), on_row),
            timeout=timeout,
        )
        await connection.copy_records_to_table(
            "embeddings",
            columns=EMBEDDING_COLUMNS,
            records=_told(embedding_rows(claim, results.embeddings), on_row),
            timeout=timeout,
        )
        info = analysis.info
        finished = await connection.fetchval(
            query("finish"),
            claim.analysis_id,
            claim.token,
            claim.lease_id,
            info.duration_seconds,
            info.width,
            info.height,
            info.fps,
            info.codec,
            analysis.frames_decoded,
            analysis.frames_analyzed,
            len(results.events),
            len(results.embeddings),
            analysis.cost.cpu_seconds,
            analysis.cost.device_seconds,
            None if analysis.cost.from_ms is None else round(analysis.cost.from_ms),
        )
        if finished is None:
            raise LeaseLostError("fence")

    async def _is_stored(self, claim: Claimed) -> bool:
        async with acquired(self._pool) as connection:
            return bool(
                await connection.fetchval(
                    "SELECT true FROM analyses WHERE id = $1 AND done_token = $2 AND lease_id = $3",
                    claim.analysis_id,
                    claim.token,
                    claim.lease_id,
                    timeout=10,
                )
            )


def _told(rows: Iterator[tuple[Any, ...]], on_row: Callable[[], None]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        on_row()
        yield row


def event_rows(claim: Claimed, events: Iterable[Event]) -> Iterator[tuple[Any, ...]]:
    """Rows for `EVENT_COLUMNS`."""
    for seq, event in enumerate(events):
        box = event.bbox or (None, None, None, None)
        yield (
            claim.analysis_id, claim.token, seq, event.event_type, event.start_ms, event.end_ms,
            event.score, event.track_id, *box, event.age, event.age_group, event.gender,
            event.gender_score, dict(event.attributes), event.thumbnail_key,
        )  # fmt: skip


def embedding_rows(claim: Claimed, embeddings: Iterable[Embedding]) -> Iterator[tuple[Any, ...]]:
    """Rows for `EMBEDDING_COLUMNS`."""
    for seq, embedding in enumerate(embeddings):
        yield (
            claim.analysis_id, claim.token, seq, embedding.kind, embedding.start_ms,
            embedding.end_ms, embedding.track_id, embedding.model, HalfVector(embedding.vector),
        )  # fmt: skip
