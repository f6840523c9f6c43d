"""`poller redrive`."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from poller.cli.access import open_queues, open_reports
from poller.redrive import Selection, Walk
from poller.redrive import redrive as walk_dlq
from poller.rules.message import VideoRequest
from poller.settings import Settings, load


async def redrive(reason: str | None, video: str | None, *, dry_run: bool) -> int:
    """Move letters from the DLQ to the queue and say how many; returns the exit code.

    Raises:
        SettingsError: no queue is named, or it has no DLQ; for a video, no database.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    console = Console()
    is_wanted = None if video is None else await _wanted(settings, video)
    walk = Walk()
    async with open_queues(settings) as queues:
        with console.status("Looking through the DLQ") as spinner:
            try:
                is_complete = await walk_dlq(
                    queues.dlq,
                    queues.queue,
                    Selection(reason, is_wanted),
                    walk,
                    dry_run=dry_run,
                    on_letter=lambda: spinner.update(_progress(walk)),
                )
            finally:  # also what an interruption or an outage cut short
                console.print(_summary(walk, dry_run=dry_run))
    if not is_complete:
        console.print("There may be more letters: run it again.")
    if walk.refused:
        console.print(
            f"{walk.refused.total()} stay: with the mark of a dead letter they are over the queue's"
            " size limit; raise its MaximumMessageSize and run it again"
        )
        return 1
    if walk.moved or (reason is None and video is None):
        return 0
    console.print(f"nothing matched; the DLQ holds: {_holdings(walk)}", highlight=False)
    return 1


async def _wanted(settings: Settings, video: str) -> Callable[[VideoRequest], bool]:
    """What `--video` means: the objects that the database knows by it, and what letters say."""
    async with open_reports(settings) as reports:
        rows = await reports.find_videos(video)
    objects = {(row["bucket"], row["object_key"]) for row in rows}

    def is_wanted(request: VideoRequest) -> bool:
        names = {request.key, f"s3://{request.bucket}/{request.key}"}
        if request.external_id is not None:
            names.add(request.external_id.value)
        return video in names or (request.bucket, request.key) in objects

    return is_wanted


def _holdings(walk: Walk) -> str:
    counted = (f"{reason} {count}" for reason, count in sorted(walk.kept.items()))
    return ", ".join(counted) or "nothing"


def _progress(walk: Walk) -> str:
    return f"{walk.moved.total()} selected, {walk.kept.total()} left"


def _summary(walk: Walk, *, dry_run: bool) -> Table:
    title = "Dry run: nothing was moved" if dry_run else "DLQ back to the queue"
    table = Table("reason", "would move" if dry_run else "moved", "left", title=title)
    for reason in sorted(walk.moved | walk.kept):
        table.add_row(reason, str(walk.moved[reason]), str(walk.kept[reason]))
    if not walk.moved | walk.kept:
        table.add_row("the DLQ is empty", "0", "0")
    return table
