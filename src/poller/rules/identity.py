"""Which video id of the application belongs to an object, and where it came from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_ID_LENGTH = 200
_KEY = re.compile(r"videos/([0-9]+)/[^/]+")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
"""What Postgres cannot store as text."""
_DIGIT_STEM = re.compile(r"([0-9]+)(\.[^./]*)?")


class Source(StrEnum):
    """Where an id came from, weakest first: a later one replaces an earlier one."""

    FILENAME = "filename"
    KEY = "key"
    ATTRIBUTE = "attribute"
    BODY = "body"


STRENGTH = tuple(Source)
"""For comparing sources, here and in the database."""


@dataclass(frozen=True, slots=True)
class ExternalId:
    """The application's id of a video. It describes the video; it never identifies the object."""

    value: str
    source: Source


def is_explicit(source: Source) -> bool:
    """Tell whether somebody stated the id, rather than the shape of the key suggesting it."""
    return source in {Source.BODY, Source.ATTRIBUTE}


def is_conflict(bound: ExternalId, offered: ExternalId) -> bool:
    """Tell whether `offered` contradicts the id that is bound already.

    A stronger source replaces a weaker one; two ids stated at the same strength, or a weaker
    statement after a stronger one, cannot both be right.
    """
    return (
        is_explicit(bound.source)
        and is_explicit(offered.source)
        and bound.value != offered.value
        and STRENGTH.index(offered.source) <= STRENGTH.index(bound.source)
    )


def is_news(offered: ExternalId | None, bound: ExternalId | None) -> bool:
    """Tell whether `offered` would change what is bound, or contradict it."""
    if offered is None or offered == bound:
        return False
    if bound is None or is_conflict(bound, offered):
        return True
    return STRENGTH.index(offered.source) > STRENGTH.index(bound.source)


def parse_explicit_id(value: object) -> str | None:
    """Read an id that a message states: a string or an integer, None where it is null.

    Raises:
        ValueError: for anything else, an empty string, or one longer than `MAX_ID_LENGTH`.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        kind = type(value).__name__
        raise ValueError(f"must be a string or an integer, not {kind}")  # noqa: TRY004 - bad data
    text = str(value).strip()
    if not 0 < len(text) <= MAX_ID_LENGTH or _NOT_TEXT.search(text):
        raise ValueError(f"must have 1 to {MAX_ID_LENGTH} characters, without NUL or broken UTF-8")
    return text


def parse_key_id(key: str) -> ExternalId | None:
    """Read an id from an object key, where its shape is one of the two that carry one.

    `videos/2025/12/29/<uuid>.mp4` carries none: a date is not an id.
    """
    if match := _KEY.fullmatch(key):
        return _bounded(match[1], Source.KEY)
    if match := _DIGIT_STEM.fullmatch(key.rpartition("/")[2]):
        return _bounded(match[1], Source.FILENAME)
    return None


def parse_attribute_id(attributes: Mapping[str, str]) -> ExternalId | None:
    """Read the id from the message attribute `video_id`.

    Raises:
        ValueError: when it is there and cannot be an id.
    """
    value = parse_explicit_id(attributes.get("video_id"))
    return None if value is None else ExternalId(value, Source.ATTRIBUTE)


def _bounded(value: str, source: Source) -> ExternalId | None:
    return ExternalId(value, source) if len(value) <= MAX_ID_LENGTH else None
