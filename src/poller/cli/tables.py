"""How results look on a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from poller.postgres.reports import Row

_BAR_WIDTH = 12
_STYLES = {"done": "green", "failed": "red", "processing": "cyan", "retry": "yellow"}


def clock(milliseconds: float) -> str:
    """`m:ss.mmm`, or `h:mm:ss.mmm` from an hour on."""
    seconds, rest = divmod(round(milliseconds), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}.{rest:03}"
    return f"{minutes}:{seconds:02}.{rest:03}"


def bar(start_ms: float, end_ms: float, whole_ms: float) -> str:
    """Where a stretch lies in the whole of it, at least one block wide."""
    if whole_ms <= 0:
        return "█" * _BAR_WIDTH
    first = min(int(_BAR_WIDTH * start_ms / whole_ms), _BAR_WIDTH - 1)
    last = max(first + 1, min(round(_BAR_WIDTH * end_ms / whole_ms), _BAR_WIDTH))
    return "·" * first + "█" * (last - first) + "·" * (_BAR_WIDTH - last)


def state(name: str | None) -> Text:
    """A state, coloured; a video that nobody has claimed has none."""
    return Text(name or "announced", style=_STYLES.get(name or "", "dim"))


def counts(title: str, numbers: Mapping[str, int]) -> Table:
    """Names and numbers."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, number in numbers.items():
        table.add_row(name, str(number))
    return table


def location(row: Row) -> Text:
    """Where a video is, to be printed with `soft_wrap`: people copy it."""
    return Text(f"s3://{row['bucket']}/{row['object_key']}", style="bold")


def summary(row: Row) -> Text:
    """A row of `latest_analyses` in a line."""
    parts = [state(row["state"]), Text(f"{row['progress'] or 0:.0%}")]
    if row["external_id"]:
        parts.insert(0, Text(f"id {row['external_id']}"))
    if row["error_code"]:
        parts.append(Text(f"{row['error_code']}: {row['error_message']}"))
    return Text("  ") + Text(", ").join(parts)


def timeline(title: str, events: Sequence[Row]) -> Table:
    """Rows of `timeline`, in order, drawn from 0 to the end of the last."""
    table = Table(title=title, title_justify="left")
    for name in ("start", "end"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("event", no_wrap=True)
    table.add_column("", style="cyan", no_wrap=True)
    table.add_column("score", justify="right")
    table.add_column("details")
    whole_ms = max((event["end_ms"] for event in events), default=0)
    for event in events:
        score = "" if event["score"] is None else f"{event['score']:.3g}"
        table.add_row(
            *(clock(event["start_ms"]), clock(event["end_ms"]), event["event_type"]),
            bar(event["start_ms"], event["end_ms"], whole_ms),
            *(score, Text(", ".join(details(event)))),
        )
    return table


def details(event: Row) -> Iterator[str]:
    """Who it was, as far as that was seen, and what else is known of it."""
    if event["track_id"] is not None:
        yield f"track {event['track_id']}"
    if event["gender"] is not None:
        yield _sure(event["gender"], event["gender_score"])
    if event["age"] is not None:
        group = event["age_group"]
        yield f"age {event['age']:.0f}" + (f" ({group})" if group else "")
    for name, value in event["attributes"].items():
        # Of a person, what is read off it has a value and perhaps its score.
        known = value if isinstance(value, Mapping) else {"value": value}
        if known.get("value") is not None:
            yield f"{name} {_sure(known['value'], known.get('score'))}"


def _sure(value: object, score: float | None) -> str:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if score is None else f"{shown} {score:.0%}"


def neighbours(title: str, rows: Sequence[Row], names: Mapping[int, str]) -> Table:
    """Rows of `nearest_shots` for one video; `names` says how to call an analysis."""
    table = Table("nearest", "start", "end", "cosine distance", title=title)
    table.title_justify = "left"
    for row in rows:
        name = names.get(row["analysis_id"], str(row["analysis_id"]))
        times = clock(row["start_ms"]), clock(row["end_ms"])
        table.add_row(name, *times, f"{row['distance']:.4f}")
    return table


def moments(title: str, rows: Sequence[Row]) -> Table:
    """Rows of `nearest_moments`."""
    table = Table(title=title, title_justify="left")
    table.add_column("video", overflow="fold")  # cut off, they would all look alike
    has_tracks = any(row["track_id"] is not None for row in rows)
    for name in ("id", "start", "end", *(("track",) if has_tracks else ())):
        table.add_column(name, no_wrap=True)
    table.add_column("uploaded")
    table.add_column("score", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(f"s3://{row['bucket']}/{row['object_key']}"),
            row["external_id"] or "",
            clock(row["start_ms"]),
            clock(row["end_ms"]),
            *((str(row["track_id"] or ""),) if has_tracks else ()),
            f"{row['uploaded_at']:%Y-%m-%d %H:%M}",
            f"{row['score']:.3f}",
        )
    return table
