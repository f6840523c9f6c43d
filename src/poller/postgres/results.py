"""Storing results: COPY, then the fence, then COMMIT."""

from collections.abc import Iterable, Iterator
from typing import Any

from pgvector import HalfVector

from inference.analyze import Analysis
from inference.events import Embedding, Event
from poller.errors import LeaseLostError, UnavailableError
from poller.postgres.checkpoints import Checkpoints
from poller.postgres.claims import Claimed
from poller.postgres.pool import Connection, Pool, acquired, query

_KEY_COLUMNS = ("analysis_id", "lease_token", "seq")
EVENT_COLUMNS = (
    *_KEY_COLUMNS, "event_type", "start_ms", "end_ms", "score", "track_id",
    "bbox_x", "bbox_y", "bbox_w", "bbox_h", "age", "age_group", "gender", "gender_score",
    "attributes",
)  # fmt: skip
EMBEDDING_COLUMNS = (
    *_KEY_COLUMNS, "kind", "start_ms", "end_ms", "track_id", "model", "embedding",
)  # fmt: skip


class Results:
    """What an analysis found, written once, under the claim's fencing token."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def journal(self, claim: Claimed) -> Checkpoints:
        """Where the parts of this claim's analysis are kept until it is stored."""
        return Checkpoints(self._pool, claim)

    async def store(self, claim: Claimed, analysis: Analysis) -> None:
        """Write all rows and mark the analysis done, in one transaction.

        Raises:
            LeaseLostError: the fence refused; nothing was stored.
            UnavailableError: Postgres is away and nothing was stored.
        """
        try:
            async with acquired(self._pool) as connection, connection.transaction():
                await self._write(connection, claim, analysis)
        except UnavailableError:
            # The reply to COMMIT may be all that was lost.
            if not await self._is_stored(claim):
                raise

    async def _write(self, connection: Connection, claim: Claimed, analysis: Analysis) -> None:
        results = analysis.results
        await connection.copy_records_to_table(
            "events", columns=EVENT_COLUMNS, records=event_rows(claim, results.events)
        )
        await connection.copy_records_to_table(
            "embeddings",
            columns=EMBEDDING_COLUMNS,
            records=embedding_rows(claim, results.embeddings),
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


def event_rows(claim: Claimed, events: Iterable[Event]) -> Iterator[tuple[Any, ...]]:
    """Rows for `EVENT_COLUMNS`."""
    for seq, event in enumerate(events):
        box = event.bbox or (None, None, None, None)
        yield (
            claim.analysis_id, claim.token, seq, event.event_type, event.start_ms, event.end_ms,
            event.score, event.track_id, *box, event.age, event.age_group, event.gender,
            event.gender_score, dict(event.attributes),
        )  # fmt: skip


def embedding_rows(claim: Claimed, embeddings: Iterable[Embedding]) -> Iterator[tuple[Any, ...]]:
    """Rows for `EMBEDDING_COLUMNS`."""
    for seq, embedding in enumerate(embeddings):
        yield (
            claim.analysis_id, claim.token, seq, embedding.kind, embedding.start_ms,
            embedding.end_ms, embedding.track_id, embedding.model, HalfVector(embedding.vector),
        )  # fmt: skip
