"""The commands: what they are called, what they take, and what their help teaches.

What a command does is in the module of its name, imported when it runs, so that `--help` is quick.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from poller.cli.bundles import bundle
from poller.cli.simulate import simulate

app = typer.Typer(
    name="poller",
    help="Turn uploaded videos into timeline events and vectors in Postgres, each exactly once.",
    epilog="Start with `poller demo`: all of it on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Kind(StrEnum):
    """What an embedding stands for."""

    frame = "frame"
    shot = "shot"


Port = Annotated[int | None, typer.Option(min=1, max=65535, help="loopback port; default: free")]


@app.command()
def run() -> None:
    """Run the service: poll the queue until SIGTERM, then drain.

    Everything is set by environment variables; wrong ones stop it with one line each, exit 2.

    - `poller run`
    - `POLLER_DEVICE=cpu POLLER_LOG_FORMAT=console poller run`
    """
    from poller import service, settings  # noqa: PLC0415 - see the module's docstring

    service.run(settings.load())


@app.command()
def migrate() -> None:
    """Bring the database up to date. Safe to run from every task at once.

    - `POLLER_DATABASE_URL=postgresql://user:password@host/name poller migrate`
    """
    from poller.cli.migrate import migrate  # noqa: PLC0415

    asyncio.run(migrate())


@app.command()
def submit(
    sources: Annotated[list[str], typer.Argument(metavar="FILE…|s3://BUCKET/KEY…")],
    video_id: Annotated[
        str | None, typer.Option(help="the application's id of the video; only for one source")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="show progress, then the result; where nobody begins and there is one of another"
            " version of the service, that one",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="longest wait in seconds")] = 3600,
) -> None:
    """Upload videos to POLLER_RAW_BUCKET and announce them; of an s3:// object only the latter.

    - `poller submit holiday.mp4 --video-id 84 --wait`
    - `poller submit *.mp4`
    - `poller submit s3://videos/2025/12/29/holiday.mp4`
    """
    from poller.cli.submit import submit  # noqa: PLC0415

    raise typer.Exit(asyncio.run(submit(sources, video_id, timeout if wait else None)))


@app.command()
def status(
    video: Annotated[
        str | None,
        typer.Argument(help="our uuid, the application's id, s3://bucket/key or the key"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Show what is queued, running, done and failed; with VIDEO, all that is known of it.

    - `poller status`
    - `poller status 84`
    - `poller status s3://videos/2025/12/29/holiday.mp4 --json`
    """
    from poller.cli.status import status  # noqa: PLC0415

    raise typer.Exit(asyncio.run(status(video, as_json=as_json)))


@app.command()
def search(
    image: Annotated[
        Path | None,
        typer.Option(help="a picture, or a video whose first frame is meant", dir_okay=False),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(help="a stored video: uuid, application's id, s3://bucket/key or key"),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="in it: `90`, `1:30` or `0:01:30.5`")
    ] = None,
    within: Annotated[
        str | None, typer.Option("--in", metavar="VIDEO", help="only moments of this video")
    ] = None,
    during: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="only while there is such an event, such as `motion`"),
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="`frame`: one each second; `shot`: from cut to cut")
    ] = Kind.frame,
    since: Annotated[
        datetime | None, typer.Option(help="only videos uploaded from then on, UTC")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="only videos uploaded before, UTC")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="how many at most")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Find the moments that look most like a picture, or like a moment of a stored video.

    The score is the cosine similarity of their descriptors: 1 is the same picture.
    Frames of a video less than ten seconds apart count as one moment.
    Exit 1 if nothing is found.

    - `poller search --image suspect.jpg`
    - `poller search --video 84 --at 1:30 --during motion`
    - `poller search --video 84 --at 1:30 --in 84`
    - `poller search --image door.png --since 2025-12-29 --limit 3 --json`
    """
    if (image is None) == (video is None):
        raise typer.BadParameter("say what to look for: either --image or --video with --at")
    if video is not None and at is None:
        raise typer.BadParameter("say at what TIME of the video", param_hint="--at")
    from poller.cli.search import Wanted, search  # noqa: PLC0415

    first, last = (day.replace(tzinfo=UTC) if day else None for day in (since, until))
    wanted = Wanted(image, video, at, within, during, kind.value, first, last, limit)
    raise typer.Exit(asyncio.run(search(wanted, as_json=as_json)))


@app.command()
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
        bool, typer.Option("--dry-run", help="count what would move, and move nothing")
    ] = False,
) -> None:
    """Move messages from the DLQ back to the queue, whole, so that their videos are tried again.

    - `poller redrive --dry-run`
    - `poller redrive --reason object_missing`
    - `poller redrive --video 84`
    """
    from poller.cli.redrive import redrive  # noqa: PLC0415

    raise typer.Exit(asyncio.run(redrive(reason, video, dry_run=dry_run)))


@app.command()
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


@app.command()
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
        raise typer.BadParameter("say which: VIDEO…, --all or --bucket")
    from poller.cli.reanalyze import Wanted, reanalyze  # noqa: PLC0415

    wanted = Wanted(tuple(videos or ()), bucket, pipeline, limit)
    raise typer.Exit(asyncio.run(reanalyze(wanted, dry_run=dry_run)))


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="stay at the end, so that one can look around")
    ] = False,
) -> None:
    """Run the main job on this machine, embedded, and check every result.

    Servers named by AWS_ENDPOINT_URL and POLLER_DATABASE_URL are used instead of embedded ones.

    - `poller demo`
    """
    from poller.cli.demo import demo  # noqa: PLC0415

    raise typer.Exit(demo(keep=keep))


@app.command()
def local(aws_port: Port = None, postgres_port: Port = None) -> None:
    """Run the embedded stack until interrupted, and describe it in `.env.local`.

    S3 and SQS with bucket, queue, DLQ and notification, and a migrated Postgres.

    - `poller local`, and in another shell
    - `set -a; . ./.env.local; set +a; poller run`
    """
    from poller.cli.local import local  # noqa: PLC0415

    local(aws_port, postgres_port)


@app.command()
def doctor() -> None:
    """Check everything that `poller run` needs: one line each, exit 1 if any fails.

    - `poller doctor`
    """
    from poller.cli.doctor import doctor  # noqa: PLC0415

    raise typer.Exit(asyncio.run(doctor()))


app.add_typer(bundle, name="bundle")
app.command()(simulate)
