"""`poller search`."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import typer
from rich.console import Console

from poller.cli import tables
from poller.cli.access import open_reports
from poller.postgres.reports import Among, Reports, Row
from poller.settings import load

_APART_MS = 10_000
"""Frames of one video closer than this are one moment: the nearest of them stands for it."""
LOOKED_AT = 100
"""Rows for each moment that is wanted: its neighbours in time are among them, and the farther the
index looks, the fewer of the nearest it misses (docs/performance.md)."""
_FARTHEST_MS = 5_000
"""From the time asked for to the described frame that stands for it; there is one each second."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for, and where, as it was typed."""

    image: Path | None
    video: str | None
    at: str | None
    within: str | None
    during: str | None
    kind: str
    since: datetime | None
    until: datetime | None
    limit: int


async def search(wanted: Wanted, *, as_json: bool) -> int:
    """Print the moments that look most like a picture; returns 1 if there is none.

    Raises:
        typer.BadParameter: there is no such picture or no such video.
        SettingsError: no database is named.
        UnavailableError: it cannot be reached.
    """
    console = Console(highlight=False)
    async with open_reports(load()) as reports:
        title, vector, asked = await _probe(reports, wanted)
        within = await _find(reports, wanted.within, "--in") if wanted.within else None
        among = Among(
            kind=wanted.kind,
            # Of the video that was asked about, only who names it wants to see the moments.
            but=None if within else asked,
            only=within,
            during=wanted.during,
            since=wanted.since,
            until=wanted.until,
        )
        rows = await reports.nearest_moments(vector, among, wanted.limit * LOOKED_AT)
    moments = spread(rows)[: wanted.limit]
    if as_json:
        print(json.dumps(moments, default=str, indent=2))  # noqa: T201 - rich would wrap it
    elif moments:
        console.print(tables.moments(title, moments))
    else:
        console.print("nothing that is stored fits; `poller status` says what there is")
    return 0 if moments else 1


def spread(rows: Iterable[Row]) -> list[Row]:
    """Of moments of one video that are close together, keep the first."""
    kept, found = list[Row](), defaultdict[UUID, list[int]](list)
    for row in rows:
        times = found[row["video_id"]]
        if all(abs(row["start_ms"] - time) >= _APART_MS for time in times):
            times.append(row["start_ms"])
            kept.append(row)
    return kept


def parse_time(text: str) -> int:
    """Read `90`, `1:30` or `0:01:30.5`; return milliseconds.

    Raises:
        ValueError: it is none of them.
    """
    parts = re.fullmatch(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)", text)
    if parts is None or (parts[2] and float(parts[3]) >= 60):
        raise ValueError(f"{text} is no time; write 90, 1:30 or 0:01:30.5")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return round((hours * 3600 + minutes * 60 + seconds) * 1000)


async def _probe(reports: Reports, wanted: Wanted) -> tuple[str, str, UUID | None]:
    """What to call the picture, its vector in pgvector's text, and the video that it is from."""
    if wanted.image is not None:
        from inference.still import describe_picture  # noqa: PLC0415 - torch takes seconds

        try:
            vector = describe_picture(wanted.image).tolist()
        except (ValueError, OSError) as error:
            raise typer.BadParameter(str(error), param_hint="--image") from error
        return f"Most like {wanted.image}", str(vector), None
    try:
        at_ms = parse_time(wanted.at or "0")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from error
    (video_id, *others) = await _find(reports, wanted.video or "", "--video")
    if others:
        detail = f"{len(others) + 1} uploads are known as {wanted.video}: name one by s3://"
        raise typer.BadParameter(detail, param_hint="--video")
    picture = await reports.picture_at(video_id, at_ms)
    if picture is None or abs(picture["start_ms"] - at_ms) > _FARTHEST_MS:
        last = f"; the nearest is at {tables.clock(picture['start_ms'])}" if picture else ""
        raise typer.BadParameter(
            f"no picture of {wanted.video} at {tables.clock(at_ms)} is stored{last}",
            param_hint="--at",
        )
    shown = tables.clock(picture["start_ms"])
    return f"Most like {wanted.video} at {shown}", picture["vector"], video_id


async def _find(reports: Reports, text: str, hint: str) -> list[UUID]:
    found = [row["video_id"] for row in await reports.find_videos(text)]
    if not found:
        raise typer.BadParameter(f"no video is known as {text}", param_hint=hint)
    return found
