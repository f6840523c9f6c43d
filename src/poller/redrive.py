"""Moving dead letters back to the queue that they came from."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from poller.rules.message import Requests, VideoRequest, parse_message
from poller.sqs import Message, Queue

HOLD_SECONDS = 900
"""Letters that stay are hidden for as long as the walk takes, so that none is met twice."""
_POLL_SECONDS = 1
NO_REASON = "none"
"""What a letter without a `reason` counts as: SQS itself moved it, after too many receives."""


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


async def redrive(
    dlq: Queue,
    queue: Queue,
    selection: Selection,
    *,
    dry_run: bool,
    on_letter: Callable[[Walk], None],
) -> Walk:
    """Walk through the DLQ once, moving what is selected and leaving the rest as it was.

    A letter goes back with its original body and all of its attributes: the service takes one
    with the attribute `reason` for a redriven one, and tries its failed videos again. It is sent
    before it is deleted, so a crash in between doubles it, which does no harm.

    Raises:
        UnavailableError: SQS is away.
    """
    walk = Walk()
    held: dict[str, Message] = {}
    try:
        while letters := await _receive_new(dlq, held):
            for letter in letters:
                is_selected = matches(letter, selection)
                (walk.moved if is_selected else walk.kept)[reason_of(letter)] += 1
                if is_selected and not dry_run:
                    await queue.send(letter.body, letter.attributes)
                    await dlq.delete(letter)
                else:
                    held[letter.id] = letter
                on_letter(walk)
    finally:
        for letter in held.values():
            await dlq.hide(letter, timedelta(0))
    return walk


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


async def _receive_new(dlq: Queue, held: dict[str, Message]) -> list[Message]:
    letters = await dlq.receive(
        limit=10, wait_seconds=_POLL_SECONDS, visibility_seconds=HOLD_SECONDS
    )
    return [letter for letter in letters if letter.id not in held]
