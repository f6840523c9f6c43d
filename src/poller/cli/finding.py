"""`poller search`: its options; what it does is imported when it runs."""

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from poller.errors import SettingsError


class Kind(StrEnum):
    """What an embedding stands for."""

    frame = "frame"
    shot = "shot"
    track = "track"


def search(
    image: Annotated[
        Path | None,
        typer.Option(help="a picture, or a video whose first frame is meant"),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(help="a stored video: uuid, application's id, s3://bucket/key or key"),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="in it: `90`, `1:30` or `0:01:30.5`")
    ] = None,
    track: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="with `--kind track`: whom, if there are several then"),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="in words; only with a bundle that has a text tower"),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="VIDEO",
            help="only moments of this video; the one of `--video` is left out without it",
        ),
    ] = None,
    during: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="only while there is such an event, such as `motion`"),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(help="`frame`: one each second; `shot`: from cut to cut; `track`: a person"),
    ] = Kind.frame,
    since: Annotated[
        datetime | None, typer.Option(help="only videos uploaded from then on, UTC")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="only videos uploaded before, UTC")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="how many at most")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Find the moments that look most like a picture, a moment of a stored video, or words.

    With `--kind track`, `--video` and `--at` mean the person who is seen then.

    POLLER_MODEL says by which vectors: those of its bundle's embedder, or the built-in ones.
    The score is their cosine similarity: 1 is the same picture; of words, 0.3 is much.
    Frames of a video less than ten seconds apart count as one moment.
    Exit 1 if nothing is found.

    - `poller search --image suspect.jpg`
    - `poller search --video 84 --at 1:30 --during motion`
    - `poller search --video 84 --at 1:30 --in 84`
    - `POLLER_MODEL=models/people poller search --video 84 --at 1:30 --kind track`
    - `poller search --image door.png --since 2025-12-29 --limit 3 --json`
    - `POLLER_MODEL=models/people poller search --text "a person with a red bag" --kind track`
    """
    from poller.cli.likeness import Moment  # noqa: PLC0415 - see poller.cli
    from poller.cli.search import Wanted, search  # noqa: PLC0415

    if [image is not None, video is not None, text is not None].count(True) != 1:
        raise SettingsError(["say what to look for: --image, --video with --at, or --text"])
    if text is not None and not text.strip():
        raise SettingsError(["--text: say in words what to look for"])
    if track is not None and (video is None or kind is not Kind.track):
        raise SettingsError(["--track: goes with --video, --at and --kind track"])
    asked: Path | Moment | str
    if video is not None:
        if at is None:
            raise SettingsError(["--at: say at what TIME of the video"])
        asked = Moment(video, at, kind is Kind.track, track)
    else:
        asked = image or text or ""
    first, last = (day.replace(tzinfo=UTC) if day else None for day in (since, until))
    wanted = Wanted(asked, within, during, kind.value, first, last, limit)
    raise typer.Exit(asyncio.run(search(wanted, as_json=as_json)))
