"""Announcing again what is unfinished and stands still, in case its message is nowhere."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from poller.errors import UnavailableError
from poller.postgres.upkeep import Stalled, Upkeep
from poller.rules.resend import is_due
from poller.s3 import Objects
from poller.sqs import Queue
from poller.submission import make_announcement


class Step(StrEnum):
    """What was done about a video that stands still."""

    SENT = "sent again"
    SUPERSEDED = "superseded"
    """It was overtaken: newer bytes or another pipeline made it needless."""
    WAITING = "not due yet"
    """It was announced lately."""
    TAKEN = "taken"
    """Somebody else sent it, or took it up, at this very moment."""


OnStep = Callable[[Stalled, Step], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a sweep goes about it."""

    after: timedelta
    """How long a video stands still before it is announced again."""
    dry_run: bool


async def sweep_stalled(upkeep: Upkeep, queue: Queue, terms: Terms, on_step: OnStep) -> None:
    """Announce again what is unfinished and unheld.

    An announcement too many is a duplicate like any other: the service finds the video held or
    done. `mark` goes first, so that of two sweeps at once only one sends.

    Raises:
        UnavailableError: Postgres or SQS is away; what was not sent is not marked.
    """
    for stalled in await upkeep.list_stalled(terms.after):
        on_step(stalled, await _advance(stalled, upkeep, queue, terms))


async def sweep_bucket(
    objects: Objects,
    place: tuple[str, str],
    upkeep: Upkeep,
    queue: Queue,
    terms: Terms,
    on_step: OnStep,
) -> None:
    """Announce the objects under `place` (bucket and prefix) that no message led to.

    Raises:
        PermanentError: the bucket is not there or may not be listed.
        RetryableError: S3 refuses the listing for another reason.
        UnavailableError: S3, Postgres or SQS is away.
    """
    async for stalled in _unannounced(objects, place, upkeep):
        on_step(stalled, await _advance(stalled, upkeep, queue, terms))


async def _unannounced(
    objects: Objects, place: tuple[str, str], upkeep: Upkeep
) -> AsyncIterator[Stalled]:
    bucket, prefix = place
    async for page in objects.list_modified(bucket, prefix):
        for stalled in await upkeep.list_unannounced(bucket, page):
            yield stalled


async def _advance(stalled: Stalled, upkeep: Upkeep, queue: Queue, terms: Terms) -> Step:
    if stalled.is_overtaken and stalled.analysis_id is not None:
        if terms.dry_run or await upkeep.supersede(stalled.analysis_id):
            return Step.SUPERSEDED
        return Step.TAKEN
    if not is_due(stalled.since, stalled.resent_at, stalled.now, terms.after):
        return Step.WAITING
    if terms.dry_run:
        return Step.SENT
    marked = await upkeep.mark(stalled)
    if marked is None:
        return Step.TAKEN
    try:
        await queue.send(make_announcement(stalled.bucket, stalled.object_key, None))
    except UnavailableError:
        await upkeep.unmark(stalled, marked)
        raise
    return Step.SENT
