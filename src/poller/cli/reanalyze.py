"""`poller reanalyze`."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from poller.cli.access import open_objects, open_queues, open_reports, open_upkeep
from poller.cli.reconcile import parse_place
from poller.errors import SettingsError
from poller.postgres.upkeep import Scope, Shown
from poller.reanalysis import Fate
from poller.reanalysis import reanalyze as announce
from poller.settings import Settings, load, require

_LATELY = timedelta(hours=1)
"""What was announced since then waits in the queue, for all that anybody knows."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to analyse again, as it was typed."""

    videos: tuple[str, ...]
    place: str | None
    pipeline: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, counted by the pipeline whose results there are."""

    progress: Progress
    task: TaskID
    dry_run: bool
    fates: Counter[tuple[str, Fate]] = field(default_factory=Counter)

    def on_fate(self, video: Shown, fate: Fate) -> None:
        """Note what became of a video."""
        self.fates[video.pipeline, fate] += 1
        self.progress.advance(self.task)
        if fate is not Fate.SENT:
            self.progress.console.print(
                f"s3://{video.bucket}/{video.object_key}: {fate}",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )

    def table(self) -> Table:
        """All of it."""
        title = "Videos (dry run: nothing was sent)" if self.dry_run else "Videos"
        table = Table("results of", "", "videos", title=title)
        for (pipeline, fate), number in sorted(self.fates.items()):
            table.add_row(pipeline, fate, str(number))
        if not self.fates:
            table.add_row("-", "none found", "0")
        return table


async def reanalyze(wanted: Wanted, *, dry_run: bool) -> int:
    """Announce videos again that have results; returns 1 if there were none.

    Raises:
        SettingsError: a setting is missing or wrong, or the database is not migrated.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    require(settings, "queue_url", "database")
    scope = await _scope(settings, wanted)
    console = Console()
    async with (
        open_upkeep(settings) as upkeep,
        open_queues(settings) as queues,
        open_objects() as objects,
    ):
        videos = await upkeep.list_shown(scope, wanted.limit)
        with _progress(console) as progress:
            report = Report(progress, progress.add_task("", total=len(videos)), dry_run)
            try:
                await announce(
                    videos, objects, upkeep, queues.queue, report.on_fate, dry_run=dry_run
                )
            finally:  # also what an interruption or an outage cut short
                console.print(report.table())
    if not videos and not wanted.videos:
        console.print("What was announced within the last hour is left out, unless it is named.")
    if len(videos) == wanted.limit:
        console.print("There may be more: run it again.")
    return 0 if videos else 1


async def _scope(settings: Settings, wanted: Wanted) -> Scope:
    bucket, prefix = (None, "") if wanted.place is None else parse_place(wanted.place)
    if not wanted.videos:
        return Scope(None, bucket, prefix, wanted.pipeline, _LATELY)
    found: set[UUID] = set()
    async with open_reports(settings) as reports:
        for text in wanted.videos:
            rows = await reports.find_videos(text)
            if not rows:
                raise SettingsError([f"no video is known as {text}"])
            found |= {row["video_id"] for row in rows}
    # Whoever names a video means it, whatever was done an hour ago.
    return Scope(sorted(found), bucket, prefix, wanted.pipeline, timedelta(0))


def _progress(console: Console) -> Progress:
    columns = TextColumn("Announcing"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, console=console, transient=True)
