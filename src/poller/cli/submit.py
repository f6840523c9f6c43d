"""`poller submit`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from poller.cli import tables
from poller.cli.access import open_objects, open_queues, open_reports
from poller.cli.follow import TERMINAL, follow
from poller.errors import SettingsError
from poller.postgres.reports import Reports, Row
from poller.settings import Settings, load, require
from poller.submission import Submission, plan_submissions
from poller.submission import submit as submit_one


async def submit(arguments: Sequence[str], video_id: str | None, wait_seconds: float | None) -> int:
    """Upload and announce; with `wait_seconds`, show the results. Returns the exit code.

    Raises:
        SettingsError: an argument or a setting is wrong; nothing was uploaded.
        PermanentError: an object is missing or forbidden.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    require(settings, "queue_url")
    if wait_seconds is not None:
        require(settings, "database")
    if video_id is not None and len(arguments) > 1:
        raise SettingsError(["--video-id goes with one source: an id belongs to one video"])
    sources = plan_submissions(arguments, settings.raw_bucket)
    console = Console()
    await _submit_all(console, settings, sources, video_id)
    if wait_seconds is None:
        return 0
    async with open_reports(settings) as reports:
        names = {(source.bucket, source.key): source.name for source in sources}
        latest = await follow(console, reports, names, wait_seconds)
        for where, name in names.items():
            await _show_result(console, reports, name, latest.get(where))
    is_done = [where in latest and latest[where]["state"] == "done" for where in names]
    return 0 if all(is_done) else 1


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


async def _show_result(console: Console, reports: Reports, name: str, row: Row | None) -> None:
    if row is None:
        console.print(f"{name}: nobody took it up in time; does `poller run` run?")
    elif row["state"] == "done":
        console.print(tables.timeline(name, await reports.read_timeline(row["video_id"])))
    elif row["state"] in TERMINAL:
        console.print(f"{name}: {row['state']}: {row['error_code']}: {row['error_message']}")
    else:
        console.print(f"{name}: not finished in time: {row['state']}, {row['progress']:.0%}")
