"""`poller search`."""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.text import Text

from inference.features import DESCRIPTOR_MODEL
from poller.bundles import obtained_bundle
from poller.cli import tables
from poller.cli.access import open_reports
from poller.cli.likeness import Moment, find_likeness, find_videos
from poller.postgres.reports import Among, Row
from poller.settings import load, require

_APART_MS = 10_000
"""Frames of one video closer than this are one moment: the nearest of them stands for it."""
LOOKED_AT = 100
"""Rows for each moment that is wanted: its neighbours in time are among them, and the farther the
index looks, the fewer of the nearest it misses (docs/performance.md)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for, and where, as it was typed."""

    asked: Path | Moment | str
    """A picture, a moment or words."""
    within: str | None
    during: str | None
    kind: str
    since: datetime | None
    until: datetime | None
    limit: int


async def search(wanted: Wanted, *, as_json: bool) -> int:
    """Print the moments that look most like what is wanted; returns 1 if there is none.

    Raises:
        SettingsError: there is no such picture or video, no text tower, or no database is named.
        UnavailableError: the database cannot be reached.
    """
    settings = load()
    require(settings, "database")
    console = Console(highlight=False)
    async with (
        obtained_bundle(settings.model, settings.work_dir) as bundle,
        open_reports(settings) as reports,
    ):
        like = await find_likeness(reports, wanted.asked, bundle)
        within = await find_videos(reports, wanted.within, "--in") if wanted.within else None
        among = Among(
            kind=wanted.kind,
            model=like.model,
            # Of the video that was asked about, only who names it wants to see the moments.
            but=None if within else like.video_id,
            only=within,
            during=wanted.during,
            since=wanted.since,
            until=wanted.until,
        )
        rows = await reports.nearest_moments(like.vector, among, wanted.limit * LOOKED_AT)
    moments = (spread(rows) if wanted.kind == "frame" else rows)[: wanted.limit]
    if as_json:
        print(json.dumps(moments, default=str, indent=2))  # noqa: T201 - rich would wrap it
    elif moments:
        console.print(tables.moments(like.title, moments))
    else:
        during = f" during `{wanted.during}`" if wanted.during else ""
        console.print(
            f"nothing that {like.model} described{during} fits;"
            " `poller status VIDEO` says what there is"
        )
        if wanted.kind == "track" and like.model == DESCRIPTOR_MODEL:
            console.print("what is built in follows nobody: let POLLER_MODEL name a bundle")
    if isinstance(wanted.asked, Moment) and not within and not as_json:
        console.print(_left_out(wanted.asked.video), soft_wrap=True)
    return 0 if moments else 1


def _left_out(video: str) -> Text:
    line = f"{video} itself is left out; `--in {shlex.quote(video)}` looks in it alone"
    return Text(line, style="dim")


def spread(rows: Iterable[Row]) -> list[Row]:
    """Of moments of one video that are close together, keep the first."""
    kept, found = list[Row](), defaultdict[UUID, list[int]](list)
    for row in rows:
        times = found[row["video_id"]]
        if all(abs(row["start_ms"] - time) >= _APART_MS for time in times):
            times.append(row["start_ms"])
            kept.append(row)
    return kept
