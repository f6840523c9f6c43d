"""`poller redrive`, `reconcile` and `reanalyze`, which have work done again: their options."""

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from poller.errors import SettingsError


def redrive(
    reason: Annotated[
        str | None,
        typer.Option(
            help="only messages with this reason, such as `too_long`; a dry run counts those that"
            " there are, docs/reference.md tells what to do about each; `none`: moved by SQS itself"
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(help="only this video: uuid, application's id, s3://bucket/key or key"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would move, and move nothing")
    ] = False,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="delete them instead; only with `--reason` or `--video`"),
    ] = False,
) -> None:
    """Move messages from the DLQ back to the queue, whole, so that their videos are tried again.

    - `poller redrive --dry-run` says of each what it is and what went wrong
    - `poller redrive --reason object_missing`
    - `poller redrive --video 84`
    - `poller redrive --drop --reason not_a_video`: there is nothing to be tried again
    """
    if drop and reason is None and video is None:
        raise SettingsError(["--drop: say which, by --reason or --video: they are gone then"])
    from poller.cli.redrive import redrive  # noqa: PLC0415

    raise typer.Exit(asyncio.run(redrive(reason, video, dry_run=dry_run, drops=drop)))


def reconcile(
    after: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="MINUTES",
            help="how long work must stand still; below 15, its message may just be hidden",
        ),
    ] = 60,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="s3://BUCKET/PREFIX",
            help="also announce objects there that no message ever led to",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done, and do nothing")
    ] = False,
) -> None:
    """Find what fell between database, queue and DLQ, and set it right. Safe at any time.

    Work that is unfinished and that nobody has held for an hour is announced again, and once more
    each time that its wait has doubled, in case its message is lost; one too many is a duplicate.
    What newer results have made needless is marked `superseded`.
    Messages in the DLQ whose videos were analysed after all are deleted.

    Beside running services, twice at once, from a scheduler every hour: all the same.

    - `poller reconcile --dry-run`
    - `poller reconcile`
    - `poller reconcile --bucket s3://videos/2025/12/`
    """
    from poller.cli.reconcile import reconcile  # noqa: PLC0415

    minutes = timedelta(minutes=after)
    raise typer.Exit(asyncio.run(reconcile(minutes, bucket, dry_run=dry_run)))


def reanalyze(
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIDEO…", help="uuid, application's id, s3://bucket/key or key"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="every video that has results")] = False,
    bucket: Annotated[
        str | None,
        typer.Option(metavar="s3://BUCKET/PREFIX", help="every video there that has results"),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PIPELINE",
            help="only videos that show this pipeline's results; a dry run counts them",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="how many at most: uploads wait behind them")
    ] = 10_000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="count what would be announced, and send nothing")
    ] = False,
) -> None:
    """Have videos analysed again by the service as it is now, with a new model bundle for example.

    Each one's old results are shown until its new ones are stored, and stay in the database.
    Run it when all tasks are replaced: an old one would take an announcement for a duplicate, and
    so does a new one where its pipeline has analysed that revision already.
    What was announced within the last hour is left out, unless it is named. Exit 1 if none is
    left.

    - `poller reanalyze --all --dry-run`
    - `poller reanalyze --all --from builtin-1/analysis-1 --limit 1000`
    - `poller reanalyze --bucket s3://videos/2025/12/`
    - `poller reanalyze 84 85`
    """
    if [bool(videos), everything, bucket is not None].count(True) != 1:
        raise SettingsError(["say which: VIDEO…, --all or --bucket"])
    from poller.cli.reanalyze import Wanted, reanalyze  # noqa: PLC0415

    wanted = Wanted(tuple(videos or ()), bucket, pipeline, limit)
    raise typer.Exit(asyncio.run(reanalyze(wanted, dry_run=dry_run)))
