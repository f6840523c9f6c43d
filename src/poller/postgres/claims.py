"""The claim protocol: who works on which video, and until when. SQL in `queries/`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from poller.errors import LeaseLostError, PermanentError, UnavailableError
from poller.postgres.pool import Pool, acquired, query
from poller.rules.failure import DEVICE_FAULT
from poller.rules.identity import STRENGTH, ExternalId, Source, is_conflict
from poller.rules.message import VideoRequest

_ANSWER_SECONDS = 20.0
"""For statements of one row, twice what they may wait for another's lock."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The lease is ours: `token` fences everything that is written under it."""

    analysis_id: int
    video_id: UUID
    token: int
    lease_id: UUID
    attempts: int
    device_faults: int
    """How often the device failed at work on this video since it last got further than ever."""


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else holds it, or it may not be retried before `wait` is over."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Terminal:
    """Nothing is left to do. `message_id` is the message that led to this state."""

    state: Literal["done", "failed", "superseded"]
    message_id: str | None
    attempts: int
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Content:
    """What an object holds now, by HeadObject."""

    revision: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """On whose behalf a claim is made."""

    message_id: str
    lease_id: UUID
    is_redriven: bool
    """The message comes from the DLQ: a failed analysis is to be tried again."""


class Claims:
    """Leases on analyses, in Postgres; every method is one statement with its own commit."""

    def __init__(self, pool: Pool, *, owner: str, lease: timedelta, pipeline: str) -> None:
        self._pool = pool
        self._owner = owner
        self._lease = lease
        self._pipeline = pipeline
        self._owed: dict[UUID, UUID] = {}

    async def bind(self, request: VideoRequest) -> UUID:
        """Make the video's row and bind the application's id to it.

        Raises:
            PermanentError: `identity_conflict`, when another id was stated before.
            UnavailableError: Postgres is away.
        """
        offered = request.external_id
        async with acquired(self._pool, seconds=_ANSWER_SECONDS) as connection:
            row = await connection.fetchrow(
                query("bind_video"),
                request.bucket,
                request.key,
                offered.value if offered else None,
                offered.source.value if offered else None,
                STRENGTH,
            )
        assert row is not None  # noqa: S101 - an upsert always returns its row
        if offered and row["external_id"] is not None:
            bound = ExternalId(row["external_id"], Source(row["external_id_source"]))
            if is_conflict(bound, offered):
                raise PermanentError(
                    "identity_conflict",
                    f"video id {offered.value!r} (from {offered.source}) contradicts "
                    f"{bound.value!r} (from {bound.source}) for s3://{request.bucket}/{request.key}",
                )
        video_id: UUID = row["id"]
        return video_id

    async def claim(
        self, video_id: UUID, content: Content, delivery: Delivery
    ) -> Claimed | Held | Terminal:
        """Take the lease, or say why not. Repeating it with the same `lease_id` is safe.

        Raises:
            UnavailableError: Postgres is away; whether the claim was granted is not known.
        """
        key = (video_id, content.revision, self._pipeline)
        arguments = (
            *key,
            delivery.lease_id,
            self._owner,
            delivery.message_id,
            self._lease,
            content.size_bytes,
            content.modified_at,
            delivery.is_redriven,
            self._owed.get(video_id),
        )
        try:
            found = await self._claim_once(key, arguments, content.modified_at)
        except UnavailableError:
            # The reply may be all that was lost; the same lease_id makes this the same claim.
            found = await self._claim_once(key, arguments, content.modified_at)
        if isinstance(found, Claimed):
            self._owed.pop(video_id, None)
        return found

    async def _claim_once(
        self, key: tuple[UUID, str, str], arguments: tuple[object, ...], modified_at: datetime
    ) -> Claimed | Held | Terminal:
        async with acquired(self._pool, seconds=_ANSWER_SECONDS) as connection:
            granted = await connection.fetchrow(query("claim"), *arguments)
            # Also where nothing is granted: an older revision that was given back after the newest
            # one was claimed has no other message that would end it.
            await connection.execute(query("supersede_older"), *key, modified_at)
            if granted is not None:
                return Claimed(*granted)
            found = await connection.fetchrow(query("read_state"), *key, modified_at)
        if found is None:
            return Held(timedelta(seconds=1))  # deleted between the two statements: ask again
        if found["state"] in ("processing", "retry"):
            return Held(max(found["remaining"] or timedelta(0), timedelta(0)))
        return Terminal(
            found["state"],
            found["lease_message_id"],
            found["attempts"],
            found["error_code"],
            found["error_message"],
        )

    async def extend(self, claim: Claimed, progress: float) -> None:
        """Beat once.

        Raises:
            LeaseLostError: another worker holds the lease, or the analysis is terminal.
            UnavailableError: Postgres is away.
        """
        async with acquired(self._pool, seconds=_ANSWER_SECONDS) as connection:
            extended = await connection.fetchval(
                query("extend_lease"), claim.analysis_id, claim.token, self._lease, progress
            )
        if extended is None:
            raise LeaseLostError("fence")

    async def postpone(
        self,
        claim: Claimed,
        after: timedelta,
        *,
        counted: bool,
        reason: str,
        detail: str,
    ) -> None:
        """Give the video up until `after` has passed; `counted` says if the attempt counts.

        When Postgres is away the attempt stays owed: our own next claim does not count.

        Raises:
            LeaseLostError: another worker holds the lease.
            UnavailableError: Postgres is away; the lease runs out by itself.
        """
        refund = 0 if counted else 1
        try:
            await self._release(claim, "retry", reason, detail, wait=after, refund=refund)
        except UnavailableError:
            if not counted:
                self._owed[claim.video_id] = claim.lease_id
            raise

    async def fail(self, claim: Claimed, reason: str, detail: str) -> None:
        """Record that the video will never be analysed, and why. Raises as `postpone` does."""
        await self._release(claim, "failed", reason, detail)

    async def fail_unheld(
        self, request: VideoRequest, reason: str, detail: str, message_id: str
    ) -> None:
        """Fail what is unfinished of an object that is not to be had any more.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with acquired(self._pool, seconds=_ANSWER_SECONDS) as connection:
            await connection.execute(
                query("fail_unheld"),
                request.bucket,
                request.key,
                self._pipeline,
                reason,
                _stored_text(detail),
                message_id,
            )

    async def ping(self) -> None:
        """Ask Postgres for an answer.

        Raises:
            UnavailableError: it gives none.
        """
        async with acquired(self._pool, seconds=_ANSWER_SECONDS) as connection:
            await connection.execute("SELECT 1")

    async def supersede(self, claim: Claimed) -> None:
        """Record that the object was overwritten meanwhile. Raises as `postpone` does."""
        await self._release(claim, "superseded", "superseded", "the object was overwritten")

    async def _release(
        self,
        claim: Claimed,
        state: str,
        reason: str,
        detail: str,
        *,
        wait: timedelta | None = None,
        refund: int = 0,
    ) -> None:
        async with acquired(self._pool, seconds=_ANSWER_SECONDS) as connection:
            released = await connection.fetchval(
                query("release"),
                claim.analysis_id,
                claim.token,
                state,
                wait,
                refund,
                reason,
                _stored_text(detail),
                int(reason == DEVICE_FAULT),
            )
        if released is None:
            raise LeaseLostError("fence")


def _stored_text(detail: str) -> str:
    return detail[:2000].replace("\x00", "").encode(errors="replace").decode()
