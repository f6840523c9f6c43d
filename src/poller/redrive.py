"""Moving dead letters back to the queue that they came from."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from poller.rules.message import Requests, VideoRequest, parse_message
from poller.sqs import Message, Queue, RefusedError, StaleReceiptError

HOLD_SECONDS = 900
"""Letters are hidden for as long as the walk takes, so that none is met twice."""
MAX_LETTERS = 10_000
MAX_COLLECT_SECONDS = 300.0
"""A walk ends well before the letters that it holds become visible again."""
_POLL_SECONDS = 1
_RELEASES_AT_ONCE = 50
NO_REASON = "none"
"""What a letter without a `reason` counts as: SQS itself moved it, after too many receives, or it
had no room for one."""


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
    """Moved to the queue; in a dry run, those that would be."""
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
    on_letter: Callable[[], None],
) -> bool:
    """Move what is selected of the letters in the DLQ, leaving the rest as it was.

    `walk` counts as it goes. Returns whether the DLQ was seen to its end: a walk takes no more
    than `MAX_LETTERS` letters.

    All letters are taken before the first one is moved: a service that runs meanwhile sends a
    video that fails again back as a new letter, which would be met again, without end.

    A letter goes back with its original body and all of its attributes, by which the service
    recognises it and tries its failed videos again; where there is no room for them, with a mark.
    One with no room for that either stays: it would be taken for a duplicate, and deleted.
    It is sent before it is deleted, so a crash in between doubles it, which does no harm.

    Raises:
        UnavailableError: SQS is away.
    """
    held: dict[str, Message] = {}
    try:
        is_complete = await _collect(dlq, held)
        for letter in list(held.values()):
            is_selected = matches(letter, selection)
            is_moved = is_selected and not dry_run
            if is_moved and not await _send_back(queue, letter):
                walk.refused[reason_of(letter)] += 1
                is_selected = is_moved = False
            if is_moved:
                del held[letter.id]
            (walk.moved if is_selected else walk.kept)[reason_of(letter)] += 1
            on_letter()
            if is_moved:
                # A letter that somebody else took or deleted meanwhile is on its way already.
                with suppress(StaleReceiptError):
                    await dlq.delete(letter)
    finally:
        await _release(dlq, held.values())
    return is_complete


def matches(letter: Message, selection: Selection) -> bool:
    """Tell whether the letter is selected. A body that nobody can read has no video to match."""
    if selection.reason is not None and reason_of(letter) != selection.reason:
        return False
    if selection.is_wanted is None:
        return True
    parsed = parse_message(letter.body, letter.texts)
    return isinstance(parsed, Requests) and any(map(selection.is_wanted, parsed.videos))


def reason_of(letter: Message) -> str:
    """Why the letter is in the DLQ."""
    return letter.texts.get("reason", NO_REASON)


async def _send_back(queue: Queue, letter: Message) -> bool:
    try:
        await queue.take_back(letter)
    except RefusedError:
        return False
    return True


async def _collect(dlq: Queue, held: dict[str, Message]) -> bool:
    """Hold every letter that there is, by id; tells whether the end of the DLQ was reached."""
    deadline = asyncio.get_running_loop().time() + MAX_COLLECT_SECONDS
    while len(held) < MAX_LETTERS and asyncio.get_running_loop().time() < deadline:
        letters = await dlq.receive(
            limit=10, wait_seconds=_POLL_SECONDS, visibility_seconds=HOLD_SECONDS
        )
        if all(letter.id in held for letter in letters):
            return True
        held.update((letter.id, letter) for letter in letters)
    return False


async def _release(dlq: Queue, letters: Iterable[Message]) -> None:
    remaining = iter(letters)
    while some := list(islice(remaining, _RELEASES_AT_ONCE)):
        await asyncio.gather(*(_show_again(dlq, letter) for letter in some))


async def _show_again(dlq: Queue, letter: Message) -> None:
    with suppress(StaleReceiptError):  # it is visible already, or somebody else's
        await dlq.hide(letter, timedelta(0))
