"""Holding the letters of the DLQ while they are looked through."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from poller.sqs import Message, Queue, StaleReceiptError

HOLD_SECONDS = 900
"""Letters are hidden for as long as a walk takes, so that none is met twice."""
MAX_LETTERS = 10_000
MAX_COLLECT_SECONDS = 300.0
MAX_WALK_SECONDS = 700.0
"""From the first letter's receive: what is left by then is shown again, by whoever holds it, well
before SQS does."""
NO_REASON = "none"
"""What a letter without a `reason` counts as: SQS itself moved it, after too many receives, or it
had no room for one."""
_POLL_SECONDS = 1
_RELEASES_AT_ONCE = 50


@dataclass(slots=True)
class Held:
    """Letters that are hidden from everybody else."""

    deadline: float
    """Monotonic time until which they are looked through."""
    by_id: dict[str, Message] = field(default_factory=dict)
    is_complete: bool = False
    """Whether the DLQ was seen to its end: no more than `MAX_LETTERS` are taken, and a walk ends
    while all of them are hidden."""

    def letters(self) -> Iterator[Message]:
        """All of them that there is time for, for a walk that lets go of some."""
        for letter in list(self.by_id.values()):
            if asyncio.get_running_loop().time() >= self.deadline:
                self.is_complete = False
                return
            yield letter

    def let_go(self, letter: Message) -> None:
        """Leave the letter to whoever has it: it was deleted, or is no longer ours."""
        del self.by_id[letter.id]


@asynccontextmanager
async def holding(dlq: Queue, seconds: float = MAX_WALK_SECONDS) -> AsyncIterator[Held]:
    """Take every letter that there is; whatever is still held at the end is visible again.

    The walk through them ends after so many seconds, those of the taking included: a letter that
    SQS shows again meanwhile is somebody else's.

    All are taken before the first one is looked at: a service that runs meanwhile sends a video
    that fails again back as a new letter, which would be met again, without end.

    Raises:
        UnavailableError: SQS is away.
    """
    held = Held(asyncio.get_running_loop().time() + seconds)
    try:
        held.is_complete = await _collect(dlq, held.by_id)
        yield held
    finally:
        await _release(dlq, held.by_id.values())


def reason_of(letter: Message) -> str:
    """Why the letter is in the DLQ."""
    return letter.texts.get("reason", NO_REASON)


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
