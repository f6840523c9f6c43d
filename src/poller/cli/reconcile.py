"""`poller reconcile`."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.status import Status
from rich.table import Table

from poller.cli.access import open_objects, open_queues, open_upkeep
from poller.errors import SettingsError
from poller.letters import reason_of
from poller.postgres.upkeep import Stalled
from poller.reconcile import Tally, drop_finished
from poller.settings import load, require
from poller.sqs import Message
from poller.sweep import Step, Terms, sweep_bucket, sweep_stalled

_SAID = {
    Step.SENT: "sent again",
    Step.SUPERSEDED: "superseded: it has newer bytes or another pipeline's results",
    Step.WAITING: "not due yet",
    Step.TAKEN: "taken up meanwhile",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, said line by line as it is done, and counted."""

    console: Console
    spinner: Status
    dry_run: bool
    steps: Counter[Step] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)

    def on_step(self, stalled: Stalled, step: Step) -> None:
        """Note what became of a video that stood still."""
        self.steps[step] += 1
        self._progress()
        if step in (Step.SENT, Step.SUPERSEDED):
            idle = stalled.now - stalled.since
            self._say(
                f"{self._would(step)} s3://{stalled.bucket}/{stalled.object_key}"
                f" ({stalled.state or 'never claimed'}, idle for {_duration(idle)})"
            )

    def on_letter(self, letter: Message, is_dropped: bool) -> None:
        """Note what became of a letter."""
        self._progress()
        if is_dropped:
            self._say(f"{self._would('dropped')} {reason_of(letter)}: {letter.body[:200]}")

    def tables(self) -> list[Table]:
        """Both halves of what was done."""
        work = Table("unfinished and idle", "videos", title=self._title("Videos"))
        for step, said in _SAID.items():
            if self.steps[step]:
                work.add_row(said, str(self.steps[step]))
        if not self.steps:
            work.add_row("none seen", "0")
        letters = Table("reason", "dropped: analysed", "left", title=self._title("DLQ"))
        for reason in sorted(self.tally.dropped | self.tally.kept):
            dropped, kept = self.tally.dropped[reason], self.tally.kept[reason]
            letters.add_row(reason, str(dropped), str(kept))
        if not self.tally.dropped | self.tally.kept:
            letters.add_row("none seen", "0", "0")
        return [work, letters]

    def _progress(self) -> None:
        letters = (self.tally.dropped | self.tally.kept).total()
        self.spinner.update(f"{self.steps.total()} videos, {letters} letters seen")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _would(self, done: str) -> str:
        return f"would be {done}:" if self.dry_run else f"{done}:"

    def _title(self, name: str) -> str:
        return f"{name} (dry run: nothing was done)" if self.dry_run else name


async def reconcile(after: timedelta, place: str | None, *, dry_run: bool) -> int:
    """Send again what stands still, drop letters that nobody needs, and say what was done.

    Raises:
        SettingsError: a setting is missing or wrong, or the database is not migrated.
        PermanentError: the bucket to look through is not there or may not be listed.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    require(settings, "queue_url", "database")
    where = None if place is None else parse_place(place)
    console = Console()
    terms = Terms(after, dry_run)
    async with (
        open_upkeep(settings) as upkeep,
        open_queues(settings) as queues,
        open_objects() as objects,
    ):
        with console.status("Looking for work that stands still") as spinner:
            report = Report(console, spinner, dry_run)
            try:
                await sweep_stalled(upkeep, queues.queue, terms, report.on_step)
                if where is not None:
                    await sweep_bucket(objects, where, upkeep, queues.queue, terms, report.on_step)
                is_complete = await drop_finished(
                    queues.dlq,
                    objects,
                    upkeep,
                    report.tally,
                    dry_run=dry_run,
                    on_letter=report.on_letter,
                )
            finally:  # also what an interruption or an outage cut short
                for table in report.tables():
                    console.print(table)
    if not is_complete:
        console.print("There may be more letters: run it again.")
    return 0


def parse_place(text: str) -> tuple[str, str]:
    """Bucket and prefix of what `--bucket` says.

    Raises:
        SettingsError: it is no place in S3.
    """
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket:
        raise SettingsError(
            [f"--bucket: {text} is not of the form s3://bucket or s3://bucket/prefix"]
        )
    return bucket, prefix


def _duration(idle: timedelta) -> str:
    minutes = int(idle.total_seconds()) // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"
