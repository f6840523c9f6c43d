"""Dropping dead letters whose videos were analysed after all."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from poller.errors import PermanentError, RetryableError
from poller.letters import holding, reason_of
from poller.postgres.upkeep import Upkeep
from poller.rules.identity import is_news
from poller.rules.message import Requests, VideoRequest, parse_message
from poller.s3 import Objects
from poller.sqs import Message, Queue, StaleReceiptError


@dataclass(frozen=True, slots=True)
class Tally:
    """What was found in the DLQ, counted by reason."""

    dropped: Counter[str] = field(default_factory=Counter)
    """In a dry run, those that would be."""
    kept: Counter[str] = field(default_factory=Counter)


async def drop_finished(
    dlq: Queue,
    objects: Objects,
    upkeep: Upkeep,
    tally: Tally,
    *,
    dry_run: bool,
    on_letter: Callable[[Message, bool], None],
) -> bool:
    """Delete the letters that nobody needs any more; returns whether the DLQ was seen to its end.

    A letter is dropped when the service would only count it as a duplicate: every video in it is
    analysed, with the bytes that its object has now, and it states no id that is not bound.
    `tally` counts as it goes, and `on_letter` is told of each letter and whether it is dropped.

    Raises:
        UnavailableError: SQS, S3 or Postgres is away; what is undecided stays.
    """
    async with holding(dlq) as held:
        for letter in held.letters():
            is_dropped = await _is_finished(letter, objects, upkeep)
            if is_dropped and not dry_run:
                is_dropped = await _delete(dlq, letter)
                held.let_go(letter)
            (tally.dropped if is_dropped else tally.kept)[reason_of(letter)] += 1
            on_letter(letter, is_dropped)
        return held.is_complete


async def _delete(dlq: Queue, letter: Message) -> bool:
    try:
        await dlq.delete(letter)
    except StaleReceiptError:
        return False  # somebody else deleted or has it
    return True


async def _is_finished(letter: Message, objects: Objects, upkeep: Upkeep) -> bool:
    parsed = parse_message(letter.body, letter.texts)
    if not isinstance(parsed, Requests) or parsed.rejected:
        return False
    for video in parsed.videos:
        if not await _is_analysed(video, objects, upkeep):
            return False
    return True


async def _is_analysed(request: VideoRequest, objects: Objects, upkeep: Upkeep) -> bool:
    known = await upkeep.read_revisions(request.bucket, request.key)
    if "done" not in known.states.values() or is_news(request.external_id, known.external_id):
        return False
    try:
        # The letter may be all that tells of other bytes than those that were analysed.
        now = await objects.head(request.bucket, request.key)
    except (PermanentError, RetryableError):
        return False
    return known.states.get(now.revision) == "done"
