"""Reading what is stored, for people: states, timelines, neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from inference.features import DESCRIPTOR_MODEL, DESCRIPTOR_SIZE
from poller.postgres.pool import outages_translated, query

if TYPE_CHECKING:
    from poller.postgres.pool import Connection

Row = Mapping[str, Any]
"""A row, by column name."""
Where = tuple[str, str]
"""Bucket and key."""


@dataclass(frozen=True, slots=True)
class Among:
    """Which moments a search looks at; None: all."""

    kind: str
    """Of the embedding: `frame`, `shot` or `track`."""
    model: str = DESCRIPTOR_MODEL
    """Whose embedding."""
    but: UUID | None = None
    """Not in this video."""
    only: Sequence[UUID] | None = None
    """In these videos."""
    during: str | None = None
    """While there is an event of this type."""
    since: datetime | None = None
    until: datetime | None = None
    """When the object was uploaded: from the first on, before the second."""


class Reports:
    """Questions to the database, each one a statement. All raise `UnavailableError`."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    async def read_clock(self) -> datetime:
        """The time that the database's own times are compared with."""
        (row,) = await self._fetch("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    async def count_states(self) -> dict[str, int]:
        """How many analyses are in each state."""
        rows = await self._fetch("SELECT state, count(*) FROM analyses GROUP BY state ORDER BY 1")
        return {row["state"]: row["count"] for row in rows}

    async def list_unfinished(self) -> list[Row]:
        """What runs, waits or failed, as rows of `latest_analyses`."""
        return await self._fetch(query("list_unfinished"))

    async def find_videos(self, text: str) -> list[Row]:
        """Find videos by our id, the application's id, `s3://bucket/key` or key."""
        bucket, key = None, text
        if text.startswith("s3://"):
            bucket, _, key = text.removeprefix("s3://").partition("/")
        return await self._fetch(query("find_videos"), _as_uuid(text), text, bucket, key)

    async def follow(self, objects: Sequence[Where]) -> dict[Where, Row]:
        """The latest analysis of each of these (bucket, key), where there is one yet."""
        return await self._by_object("follow_objects", objects)

    async def follow_revisions(
        self, revisions: Mapping[Where, str], since: datetime
    ) -> dict[Where, Row]:
        """The videos at these (bucket, key), each with the newest analysis of this revision.

        One that was finished before `since` is called `is_earlier`, and comes only where there is
        no other.
        """
        wanted = list(revisions.values())
        return await self._by_object("follow_revisions", list(revisions), wanted, since)

    async def audit(self, objects: Sequence[Where]) -> dict[Where, Row]:
        """How many analyses, events and embeddings are stored for each (bucket, key)."""
        return await self._by_object("audit_objects", objects)

    async def read_timeline(self, video_id: UUID) -> list[Row]:
        """The events of the newest done revision, as rows of `timeline`."""
        return await self._fetch(
            "SELECT * FROM timeline WHERE video_id = $1 ORDER BY start_ms, seq", video_id
        )

    async def read_events(self, analysis_id: int) -> list[Row]:
        """The events of one analysis, whether or not it is the newest; empty if it is not done."""
        return await self._fetch(
            "SELECT * FROM events WHERE analysis_id = $1 ORDER BY start_ms, seq", analysis_id
        )

    async def nearest_shots(self, analysis_ids: Sequence[int], limit: int) -> list[Row]:
        """The shots that look most like the longest shot of each analysis, nearest first."""
        with outages_translated():
            async with self._connection.transaction():
                # An approximate index and a filter: without this the filter eats the answer.
                await self._connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
                return await self._fetch(query("nearest_shots"), list(analysis_ids), limit)

    async def picture_at(self, video_id: UUID, at_ms: int, model: str) -> Row | None:
        """The frame nearest to a time that a model described: `start_ms` and `vector`, as text."""
        rows = await self._fetch(query("picture_at"), video_id, at_ms, model)
        return rows[0] if rows else None

    async def tracks_at(self, video_id: UUID, at_ms: int, model: str) -> list[Row]:
        """Who is seen at a time, by `track_id`, with `start_ms`, `end_ms` and `vector`, as text."""
        return await self._fetch(query("tracks_at"), video_id, at_ms, model)

    async def nearest_moments(self, vector: str, among: Among, limit: int) -> list[Row]:
        """What is shown now and looks most like a vector, in pgvector's text, nearest first."""
        with outages_translated():
            async with self._connection.transaction():
                # Without the first a filter eats the answer. Pictures of a camera that stands still
                # are alike by the hundred, and a narrow search does not find out of one hundred.
                await self._connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
                await self._connection.execute("SET LOCAL hnsw.ef_search = 1000")
                # By default a scan ends at 20,000 rows, although none of them may pass the filter.
                await self._connection.execute("SET LOCAL hnsw.max_scan_tuples = 1000000")
                await self._connection.execute("SET LOCAL hnsw.scan_mem_multiplier = 16")
                wanted = (among.kind, among.but, among.only, among.during, among.since, among.until)
                statement = _of_model(query("nearest_moments"), among.model, vector.count(",") + 1)
                return await self._fetch(statement, vector, *wanted, limit)

    async def _by_object(
        self, name: str, objects: Sequence[Where], *arguments: object
    ) -> dict[Where, Row]:
        buckets, keys = [bucket for bucket, _ in objects], [key for _, key in objects]
        rows = await self._fetch(query(name), buckets, keys, *arguments)
        return {(row["bucket"], row["object_key"]): row for row in rows}

    async def _fetch(self, statement: str, *arguments: object) -> list[Row]:
        with outages_translated():
            return [dict(row) for row in await self._connection.fetch(statement, *arguments)]


def _of_model(statement: str, model: str, size: int) -> str:
    """Put another model and the size of its vectors into a statement for the built-in ones.

    Both must be in the text: as parameters they would keep the planner from a partial index.
    """
    quoted = "'" + model.replace("'", "''") + "'"
    return statement.replace(f"'{DESCRIPTOR_MODEL}'", quoted).replace(
        f"halfvec({DESCRIPTOR_SIZE})", f"halfvec({size})"
    )


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
