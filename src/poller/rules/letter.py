"""What is written on a message that goes to the DLQ, and how one that comes back is recognised."""

from collections.abc import Iterator, Mapping
from typing import Any

from poller.rules.verdict import DeadLetter

MAX_ATTRIBUTES = 10
"""SQS takes no more."""
MARK = "dlq"
"""The shortest sign that a message was a dead letter, for one with no room for the reason."""
_MARKED = {MARK: {"DataType": "Number", "StringValue": "1"}}
_SAID = ("reason", "attempts", "detail")
_MAX_DETAIL = 1000

Attributes = Mapping[str, Mapping[str, Any]]
"""Message attributes as SQS gives and takes them, `{name: {DataType, StringValue, …}}`."""


def is_redriven(attributes: Attributes) -> bool:
    """Tell whether a message comes back from the DLQ: we put these on it, and tools keep them.

    An application may have a `reason` of its own, so that it alone does not count.
    """
    return MARK in attributes or {"reason", "attempts"} <= attributes.keys()


def plan_dead_letter(original: Attributes, verdict: DeadLetter) -> Iterator[dict[str, Any]]:
    """Attributes for the DLQ, the fullest first: what a message at the size limit has room for.

    First the detail is left out, then the reason, whose place the mark takes. Last come the
    original ones alone: such a letter is like those that SQS itself moves.
    """
    kept = {name: value for name, value in original.items() if name not in (MARK, *_SAID)}
    reason = {
        "reason": {"DataType": "String", "StringValue": verdict.reason},
        "attempts": {"DataType": "Number", "StringValue": str(verdict.attempts)},
    }
    detail = _printable(verdict.detail)[:_MAX_DETAIL]
    if detail and len(kept) + len(reason) < MAX_ATTRIBUTES:
        yield _joined(kept, reason | {"detail": {"DataType": "String", "StringValue": detail}})
    yield _joined(kept, reason)
    yield _joined(kept, _MARKED)
    yield dict(kept)


def plan_redrive(letter: Attributes) -> Iterator[dict[str, Any]]:
    """Attributes for the queue, the fullest first, each of them recognised by `is_redriven`."""
    if is_redriven(letter):
        yield dict(letter)
    else:  # SQS itself moved it, or it had no room for more
        yield _joined(letter, _MARKED)
    kept = {name: value for name, value in letter.items() if name not in (MARK, *_SAID)}
    yield _joined(kept, _MARKED)


def _joined(kept: Attributes, added: Attributes) -> dict[str, Any]:
    """Both, within the ten that SQS takes: the last of the original ones give way."""
    # The application's id of the video is the only one that the service itself reads.
    ordered = sorted(kept, key=lambda name: name != "video_id")
    return {name: kept[name] for name in ordered[: MAX_ATTRIBUTES - len(added)]} | dict(added)


def _printable(text: str) -> str:
    # SQS refuses characters outside of XML 1.0's range.
    return "".join(
        c if c in "\t\n\r" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )
