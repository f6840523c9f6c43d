"""`poller status`."""

import json
from typing import Any

from rich.console import Console

from poller.cli import tables
from poller.cli.access import open_queues, open_reports
from poller.postgres.reports import Reports, Row
from poller.settings import Settings, load

_SHOWN = (
    "video_id", "analysis_id", "external_id", "external_id_source", "revision", "pipeline",
    "attempts", "size_bytes", "duration_seconds", "width", "height", "fps", "codec",
    "frames_decoded", "frames_analyzed", "frames_skipped", "events_count", "embeddings_count",
    "cpu_seconds", "device_seconds", "cost_from_ms", "error_code", "error_message",
    "created_at", "done_at",
)  # fmt: skip
_LABELS = {"in_flight": "in flight or hidden"}
"""SQS counts a message that waits to be tried again as in flight too."""


async def status(video: str | None, *, as_json: bool) -> int:
    """Print the state of the whole, or of the videos that `video` means; returns the exit code.

    Raises:
        SettingsError: no database is named.
        UnavailableError: a system cannot be reached.
    """
    settings = load()
    console = Console()
    async with open_reports(settings) as reports:
        if video is not None:
            return await _show_videos(console, reports, video, as_json=as_json)
        states = await reports.count_states()
        unfinished = await reports.list_unfinished()
    depths = await _depths(settings)
    if as_json:
        _print_json({"analyses": states, "queues": depths, "unfinished": unfinished})
        return 0
    console.print(tables.counts("Analyses", states or {"none yet": 0}))
    for name, depth in depths.items():
        labelled = {_LABELS.get(state, state): number for state, number in depth.items()}
        console.print(tables.counts(name.upper() if name == "dlq" else name.capitalize(), labelled))
    if unfinished:
        console.print("Not done")
    for row in unfinished:
        console.print(tables.location(row), soft_wrap=True)
        console.print(tables.summary(row), soft_wrap=True)
    return 0


async def _depths(settings: Settings) -> dict[str, dict[str, int]]:
    if settings.queue_url is None:  # a look at the database needs no queue
        return {}
    async with open_queues(settings) as queues:
        return {"queue": await queues.queue.depth(), "dlq": await queues.dlq.depth()}


async def _show_videos(console: Console, reports: Reports, text: str, *, as_json: bool) -> int:
    found = await reports.find_videos(text)
    timelines = [await reports.read_timeline(row["video_id"]) for row in found]
    if as_json:
        pairs = zip(found, timelines, strict=True)
        _print_json([{**row, "events": events} for row, events in pairs])
    elif not found:
        console.print(f"no video is known as {text}", highlight=False)
    else:
        if len({row["video_id"] for row in found}) > 1:
            console.print(f"{len(found)} uploads are known as {text}:", highlight=False)
        for row, events in zip(found, timelines, strict=True):
            _show_video(console, row, events)
    return 0 if found else 1


def _show_video(console: Console, row: Row, events: list[Row]) -> None:
    console.print(tables.location(row), soft_wrap=True)
    console.print(tables.state(row["state"]), f"{row['progress'] or 0:.0%}")
    for name in _SHOWN:
        if row[name] is not None:
            console.print(f"  {name}: {row[name]}", highlight=False, markup=False)
    if events:
        console.print(tables.timeline("Timeline", events))


def _print_json(document: Any) -> None:
    print(json.dumps(document, default=str, indent=2))  # noqa: T201 - rich would wrap long lines
