"""Announcing again what is analysed already, for a service that has another pipeline now.

Old results are not touched: a claim is for one pipeline, and the views show the newest analysis
that is done.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from poller.errors import PermanentError, RetryableError, UnavailableError
from poller.postgres.upkeep import Shown, Upkeep
from poller.s3 import Objects
from poller.sqs import Queue
from poller.submission import make_announcement


class Fate(StrEnum):
    """What became of a video that was to be announced again."""

    SENT = "announced"
    UNREADABLE = "its object is gone or may not be read"
    """Announced, it would only become a dead letter."""
    TAKEN = "announced by somebody else at this very moment"


async def reanalyze(
    videos: Sequence[Shown],
    objects: Objects,
    upkeep: Upkeep,
    queue: Queue,
    on_fate: Callable[[Shown, Fate], None],
    *,
    dry_run: bool,
) -> None:
    """Announce the objects of these videos, as they are now.

    Raises:
        UnavailableError: S3, Postgres or SQS is away; what was not sent is not marked.
    """
    for video in videos:
        on_fate(video, await _announce(video, objects, upkeep, queue, dry_run=dry_run))


async def _announce(
    video: Shown, objects: Objects, upkeep: Upkeep, queue: Queue, *, dry_run: bool
) -> Fate:
    try:
        await objects.head(video.bucket, video.object_key)
    except (PermanentError, RetryableError):
        if not dry_run:  # looked at: what comes after it in the list has its turn, too
            await upkeep.mark(video)
        return Fate.UNREADABLE
    if dry_run:
        return Fate.SENT
    marked = await upkeep.mark(video)
    if marked is None:
        return Fate.TAKEN
    try:
        await queue.send(make_announcement(video.bucket, video.object_key, None))
    except UnavailableError:
        await upkeep.unmark(video, marked)
        raise
    return Fate.SENT
