"""`poller redrive`."""

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from poller.cli.access import open_queues, open_reports
from poller.letters import reason_of
from poller.redrive import Selection, Walk
from poller.redrive import redrive as walk_dlq
from poller.rules.message import Requests, VideoRequest, parse_message
from poller.settings import Settings, load
from poller.sqs import Message

_SHOWN = 20
"""Letters of which a dry run tells the particulars."""
_BODY = 200
"""Characters of a body that names no video."""


async def redrive(reason: str | None, video: str | None, *, dry_run: bool, drops: bool) -> int:
    """Move letters from the DLQ to the queue, or drop them, and say how many.

    A dry run says what each of them is. Returns the exit code.

    Raises:
        SettingsError: no queue is named, or it has no DLQ; for a video, no database.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    console = Console()
    is_wanted = None if video is None else await _wanted(settings, video)
    walk, selected = Walk(), list[Message]()
    async with open_queues(settings) as queues:
        with console.status("Looking through the DLQ") as spinner:

            def note(letter: Message, is_selected: bool) -> None:
                if is_selected and len(selected) < _SHOWN:
                    selected.append(letter)
                spinner.update(_progress(walk))

            is_complete = False
            try:
                is_complete = await walk_dlq(
                    queues.dlq,
                    queues.queue,
                    Selection(reason, is_wanted),
                    walk,
                    dry_run=dry_run,
                    drops=drops,
                    on_letter=note,
                )
            finally:  # also what an interruption or an outage cut short
                empty = "the DLQ is empty" if is_complete else "none looked at"
                console.print(_summary(walk, empty, dry_run=dry_run, drops=drops))
    if dry_run:
        for line in _particulars(selected, walk.moved.total()):
            console.print(line, soft_wrap=True)
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


def _particulars(letters: Sequence[Message], count: int) -> Iterator[Text]:
    """A line for each letter: reason, video, what went wrong; of a body without one, its start."""
    for letter in letters:
        parsed = parse_message(letter.body, letter.texts)
        videos = parsed.videos if isinstance(parsed, Requests) else ()
        what = ", ".join(f"s3://{each.bucket}/{each.key}" for each in videos)
        said = (reason_of(letter), what or repr(letter.body[:_BODY]), letter.texts.get("detail"))
        yield Text(": ".join(filter(None, said)))
    if count > len(letters):
        yield Text(f"and {count - len(letters)} more")


def _summary(walk: Walk, empty: str, *, dry_run: bool, drops: bool) -> Table:
    verb, done = ("drop", "dropped") if drops else ("move", "moved")
    title = "Letters of the DLQ" if drops else "DLQ back to the queue"
    if dry_run:
        title, done = f"Dry run: nothing was {done}", f"would {verb}"
    table = Table("reason", done, "left", title=title)
    for reason in sorted(walk.moved | walk.kept):
        table.add_row(reason, str(walk.moved[reason]), str(walk.kept[reason]))
    if not walk.moved | walk.kept:
        table.add_row(empty, "0", "0")
    return table
