"""What `poller reconcile` and `reanalyze` ask the database and write. SQL in `queries/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from poller.postgres.pool import outages_translated, query
from poller.rules.identity import ExternalId, Source

if TYPE_CHECKING:
    from poller.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Stalled:
    """A video that nobody works on, although its work is not done."""

    bucket: str
    object_key: str
    resent_at: datetime | None
    analysis_id: int | None
    state: str | None
    """None where there is no analysis yet."""
    since: datetime
    """When its lease ran out, its retry was due, or it was bound or uploaded."""
    now: datetime
    """When that was read, by the database's clock."""
    is_overtaken: bool
    """Nothing is left to do for it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A video with results."""

    bucket: str
    object_key: str
    pipeline: str
    """Whose results `timeline` shows."""
    revision: str
    """Of the object, that these results are of."""
    resent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which videos with results are meant; None: all."""

    videos: Sequence[UUID] | None = None
    bucket: str | None = None
    prefix: str = ""
    """How the keys in the bucket begin."""
    pipeline: str | None = None
    """Whose results are shown."""
    idle: timedelta = timedelta(0)
    """Not announced again for so long."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored about an object."""

    states: Mapping[str, str]
    """Of the newest analysis of each revision."""
    external_id: ExternalId | None


class Upkeep:
    """Statements, each with its own commit. All raise `UnavailableError`."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    async def list_stalled(self, after: timedelta) -> list[Stalled]:
        """Work that stands still for `after` at least, at most 10,000 of it."""
        return await self._fetch("list_stalled", after)

    async def list_unannounced(
        self, bucket: str, modified: Mapping[str, datetime]
    ) -> list[Stalled]:
        """Of these objects, with when they got their bytes, those whose bytes nobody claimed."""
        return await self._fetch(
            "list_unannounced", bucket, list(modified), list(modified.values())
        )

    async def list_shown(self, scope: Scope, limit: int) -> list[Shown]:
        """Videos with results, those first that were announced again least recently."""
        wanted = scope.videos, scope.bucket, scope.prefix, scope.pipeline, scope.idle
        with outages_translated():
            rows = await self._connection.fetch(query("list_shown"), *wanted, limit)
        return [Shown(**dict(row)) for row in rows]

    async def supersede(self, analysis_id: int) -> bool:
        """End an analysis that is overtaken; False when it is held or ended already."""
        with outages_translated():
            ended = await self._connection.fetchval(query("supersede_overtaken"), analysis_id)
        return ended is not None

    async def mark(self, video: Stalled | Shown) -> datetime | None:
        """Note that it is announced again now; None when somebody else was quicker."""
        with outages_translated():
            marked: datetime | None = await self._connection.fetchval(
                query("mark_resent"), video.bucket, video.object_key, video.resent_at
            )
        return marked

    async def unmark(self, video: Stalled | Shown, marked: datetime) -> None:
        """Take a mark back, because nothing was sent."""
        with outages_translated():
            await self._connection.execute(
                query("unmark_resent"),
                video.bucket,
                video.object_key,
                marked,
                video.resent_at,
            )

    async def read_revisions(self, bucket: str, key: str) -> Known:
        """What is stored about an object; nothing where it was never claimed."""
        with outages_translated():
            rows = await self._connection.fetch(query("read_revisions"), bucket, key)
        bound = None
        if rows and rows[0]["external_id"] is not None:
            bound = ExternalId(rows[0]["external_id"], Source(rows[0]["external_id_source"]))
        return Known({row["revision"]: row["state"] for row in rows}, bound)

    async def _fetch(self, name: str, *arguments: object) -> list[Stalled]:
        with outages_translated():
            rows = await self._connection.fetch(query(name), *arguments)
        return [Stalled(**dict(row)) for row in rows]
