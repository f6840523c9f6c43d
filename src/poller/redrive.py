"""Moving dead letters back to the queue that they came from, or dropping them."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from poller.letters import holding, reason_of
from poller.rules.message import Requests, VideoRequest, parse_message
from poller.sqs import Message, Queue, RefusedError, StaleReceiptError


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters to move; what is None does not matter."""

    reason: str | None = None
    is_wanted: Callable[[VideoRequest], bool] | None = None
    """Tells whether a letter's video is one that is asked for."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What was found in the DLQ, counted by reason."""

    moved: Counter[str] = field(default_factory=Counter)
    """Moved to the queue, or dropped; in a dry run, those that would be."""
    kept: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Of those that were kept, what the queue did not take: it has no room for the mark."""


async def redrive(
    dlq: Queue,
    queue: Queue,
    selection: Selection,
    walk: Walk,
    *,
    dry_run: bool,
    on_letter: Callable[[Message, bool], None],
    drops: bool = False,
) -> bool:
    """Move what is selected of the letters in the DLQ, leaving the rest as it was.

    With `drops` it is deleted instead. `walk` counts as it goes, and `on_letter` is told of each
    letter and whether it is selected. Returns whether the DLQ was seen to its end.

    A letter goes back with its original body and all of its attributes, by which the service
    recognises it and tries its failed videos again; where there is no room for them, with a mark.
    One with no room for that either stays: it would be taken for a duplicate, and deleted.
    It is sent before it is deleted, so a crash in between doubles it, which does no harm.

    Raises:
        UnavailableError: SQS is away.
    """
    async with holding(dlq) as held:
        for letter in held.letters():
            is_selected = matches(letter, selection)
            is_moved = is_selected and not dry_run
            if is_moved and not drops and not await _send_back(queue, letter):
                walk.refused[reason_of(letter)] += 1
                is_selected = is_moved = False
            if is_moved:
                # A letter that somebody else took or deleted meanwhile is on its way already.
                with suppress(StaleReceiptError):
                    await dlq.delete(letter)
                held.let_go(letter)
            (walk.moved if is_selected else walk.kept)[reason_of(letter)] += 1
            on_letter(letter, is_selected)
        return held.is_complete


def matches(letter: Message, selection: Selection) -> bool:
    """Tell whether the letter is selected. A body that nobody can read has no video to match."""
    if selection.reason is not None and reason_of(letter) != selection.reason:
        return False
    if selection.is_wanted is None:
        return True
    parsed = parse_message(letter.body, letter.texts)
    return isinstance(parsed, Requests) and any(map(selection.is_wanted, parsed.videos))


async def _send_back(queue: Queue, letter: Message) -> bool:
    try:
        await queue.take_back(letter)
    except RefusedError:
        return False
    return True
