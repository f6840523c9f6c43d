"""Watching announced videos until every one is finished."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from poller.cli.typed import command
from poller.postgres.reports import Row, Where

TERMINAL = {"done", "failed", "superseded"}
_LOOK_SECONDS = 0.3
HINT_SECONDS = 15.0


async def follow(
    console: Console,
    look: Callable[[], Awaitable[Mapping[Where, Row]]],
    names: Mapping[Where, str],
    timeout_seconds: float,
    is_finished: Callable[[Row], bool] = lambda row: row["state"] in TERMINAL,
    hint_seconds: float = HINT_SECONDS,
) -> Mapping[Where, Row]:
    """Show progress bars until all are finished; returns what the last look saw.

    `look` gives the state of each object in `names`. An object that nobody took up in time is
    missing from the answer, and one that is not finished is in it as it is.

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
    latest: Mapping[Where, Row] = {}
    with Progress(*columns, console=console) as progress:
        bars = {
            where: progress.add_task(name, total=1, state="waiting")
            for where, name in names.items()
        }
        silence = _Silence(hint_seconds)
        try:
            async with asyncio.timeout(timeout_seconds):
                while not all(where in latest and is_finished(latest[where]) for where in names):
                    await asyncio.sleep(_LOOK_SECONDS)
                    latest = await look()
                    for where, row in latest.items():
                        _show(progress, bars[where], row, is_finished=is_finished(row))
                    if silence.is_long({where: row["state"] for where, row in latest.items()}):
                        console.print(
                            f"Still waiting: `{command()} run` must run for this queue.",
                            soft_wrap=True,
                        )
        except TimeoutError:
            return latest
    return latest


class _Silence:
    """Notices, once, that nothing has happened for so long and that nobody is at work."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._states: Mapping[Where, str | None] = {}
        self._since = asyncio.get_running_loop().time()
        self._was_told = False

    def is_long(self, states: Mapping[Where, str | None]) -> bool:
        """Take what the latest look saw; True once."""
        now = asyncio.get_running_loop().time()
        if states != self._states or "processing" in states.values():
            self._states, self._since = states, now
        if self._was_told or now - self._since < self._seconds:
            return False
        self._was_told = True
        return True


def _show(progress: Progress, bar: TaskID, row: Row, *, is_finished: bool) -> None:
    done = 1.0 if row["state"] in TERMINAL else row["progress"] or 0.0
    progress.update(bar, completed=done, state=row["error_code"] or row["state"] or "waiting")
    if is_finished:
        progress.stop_task(bar)
