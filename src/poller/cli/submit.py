"""`poller submit`."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from poller.cli import tables
from poller.cli.access import open_objects, open_queues, open_reports
from poller.cli.follow import HINT_SECONDS, TERMINAL, follow
from poller.cli.typed import command
from poller.errors import SettingsError, UnavailableError
from poller.postgres.reports import Reports, Row, Where
from poller.rules.identity import ExternalId, Source, is_conflict
from poller.settings import Settings, load, missing
from poller.submission import Submission, check_video_id, plan_submissions
from poller.submission import submit as submit_one


async def submit(arguments: Sequence[str], video_id: str | None, wait_seconds: float | None) -> int:
    """Upload and announce; with `wait_seconds`, show the results. Returns the exit code.

    Raises:
        SettingsError: an argument or a setting is wrong; nothing was uploaded.
        PermanentError: an object is missing or forbidden.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    if video_id is not None and len(arguments) > 1:
        raise SettingsError(["--video-id goes with one source: an id belongs to one video"])
    stated = check_video_id(video_id)
    sources = _plan(settings, arguments, is_waiting=wait_seconds is not None)
    console = Console()
    if wait_seconds is None:
        await _submit_all(console, settings, sources, stated)
        return 0
    async with open_reports(settings) as reports:  # before anything is uploaded
        since = await reports.read_clock()
        await _submit_all(console, settings, sources, stated)
        try:
            return await wait(console, reports, sources, stated, since, wait_seconds)
        except UnavailableError:
            console.print("What is announced is analysed all the same; `poller status` shows it.")
            raise


def _plan(settings: Settings, arguments: Sequence[str], *, is_waiting: bool) -> list[Submission]:
    """Decide where everything goes, or name all that is missing or wrong at once."""
    lines = missing(settings, "queue_url", *(["database"] if is_waiting else []))
    try:
        sources = plan_submissions(arguments, settings.raw_bucket)
    except SettingsError as error:
        raise SettingsError(lines + error.lines) from error
    if lines:
        raise SettingsError(lines)
    return sources


async def _submit_all(
    console: Console, settings: Settings, sources: Sequence[Submission], video_id: str | None
) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
    )  # fmt: skip
    async with open_objects() as objects, open_queues(settings) as queues:
        with Progress(*columns, console=console) as progress:
            for source in sources:
                size = source.path.stat().st_size if source.path else 0
                bar = progress.add_task(
                    Path(source.name).name, total=size, visible=source.path is not None
                )
                await submit_one(
                    source,
                    objects,
                    queues.queue,
                    video_id=video_id,
                    on_bytes=lambda count, bar=bar: progress.advance(bar, count),  # type: ignore[misc]  # a bound default
                )
    for source in sources:
        console.print(f"announced s3://{source.bucket}/{source.key}", soft_wrap=True)


async def wait(
    console: Console,
    reports: Reports,
    sources: Sequence[Submission],
    stated: str | None,
    since: datetime,
    seconds: float,
    *,
    hint_seconds: float = HINT_SECONDS,
) -> int:
    """Show the results of what was announced, as far as there are any after so long."""
    names = {(source.bucket, source.key): Path(source.name).name for source in sources}
    # An object may have been analysed before, with other bytes: that result is not the answer.
    async with open_objects() as objects:
        heads = [await objects.head(*where) for where in names]
    revisions = {(head.bucket, head.key): head.revision for head in heads}

    clock = asyncio.get_running_loop().time
    patient_until = clock() + hint_seconds

    async def look() -> Mapping[Where, Row]:
        rows = await reports.follow_revisions(revisions, since)
        if clock() >= patient_until:
            return rows  # an earlier result is the answer where nobody has begun another one
        return {
            where: {**row, "state": None} if row["is_earlier"] else row
            for where, row in rows.items()
        }

    await follow(
        console,
        look,
        names,
        seconds,
        is_finished=lambda row: _is_finished(row, stated),
        hint_seconds=hint_seconds,
    )
    latest = await reports.follow_revisions(revisions, since)
    shown = [
        await _show_result(console, reports, name, latest.get(where), stated)
        for where, name in names.items()
    ]
    return 0 if all(shown) else 1


def _is_finished(row: Row, stated: str | None) -> bool:
    """Tell whether nothing will change: S3's announcement may come to an end before ours."""
    if _is_refused(row, stated):
        return True
    return row["state"] in TERMINAL and stated in (None, row["external_id"])


def _is_refused(row: Row, stated: str | None) -> bool:
    """Tell whether the service refuses the id that we state, with `identity_conflict`."""
    if stated is None or row["external_id"] is None:
        return False
    bound = ExternalId(row["external_id"], Source(row["external_id_source"]))
    return is_conflict(bound, ExternalId(stated, Source.BODY))


async def _show_result(
    console: Console, reports: Reports, name: str, row: Row | None, stated: str | None
) -> bool:
    """Say what became of it; returns whether it is done."""
    if row is not None and row["is_earlier"]:
        note = f"analysed before, by pipeline {row['pipeline']}; no other analysis has begun"
        console.print(f"{name}: {note}", markup=False, highlight=False)
    if row is not None and _is_refused(row, stated):
        fault = f"identity_conflict: it is video {row['external_id']} already, not {stated}"
    elif row is None or row["state"] is None:
        fault = f"nobody took it up in time; does `{command()} run` run?"
    elif row["state"] not in TERMINAL:
        fault = f"not finished in time: {row['state']}, {row['progress']:.0%}"
    elif row["state"] != "done":
        fault = f"{row['state']}: {row['error_code']}: {row['error_message']}"
    elif not _is_finished(row, stated):
        fault = f"analysed, but nobody took up its id {stated} in time"
    else:
        console.print(tables.timeline(name, await reports.read_events(row["analysis_id"])))
        return True
    console.print(f"{name}: {fault}", markup=False, highlight=False)
    return False
