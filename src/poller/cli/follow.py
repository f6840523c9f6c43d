"""Watching announced videos until every one is finished."""

import asyncio
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from poller.postgres.reports import Reports, Row

TERMINAL = {"done", "failed", "superseded"}
_LOOK_SECONDS = 0.3


async def follow(
    console: Console,
    reports: Reports,
    objects: Mapping[tuple[str, str], str],
    timeout_seconds: float,
    on_look: Callable[[], None] = lambda: None,
) -> dict[tuple[str, str], Row]:
    """Show progress bars until all are finished; returns the latest analysis of each.

    `objects` says how to call each (bucket, key). An object that nobody took up in time is
    missing from the answer, and one that is not finished has no terminal state in it.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    latest: dict[tuple[str, str], Row] = {}
    with Progress(*columns, console=console) as progress:
        bars = {
            where: progress.add_task(name, total=1, state="waiting")
            for where, name in objects.items()
        }
        try:
            async with asyncio.timeout(timeout_seconds):
                while not _all_finished(latest, objects):
                    await asyncio.sleep(_LOOK_SECONDS)
                    on_look()
                    latest = await reports.follow(list(objects))
                    for where, row in latest.items():
                        _show(progress, bars[where], row)
        except TimeoutError:
            return latest
    return latest


def _all_finished(
    latest: Mapping[tuple[str, str], Row], objects: Mapping[tuple[str, str], str]
) -> bool:
    return all(where in latest and latest[where]["state"] in TERMINAL for where in objects)


def _show(progress: Progress, bar: TaskID, row: Row) -> None:
    done = 1.0 if row["state"] in TERMINAL else row["progress"]
    progress.update(bar, completed=done, state=row["error_code"] or row["state"])
    if row["state"] in TERMINAL:
        progress.stop_task(bar)
