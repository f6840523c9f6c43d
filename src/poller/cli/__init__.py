"""The commands: what they are called, what they take, and what their help teaches.

What a command does is in the module of its name, imported when it runs, so that `--help` is quick.
"""

import asyncio
from typing import Annotated

import typer

from poller.cli.again import reanalyze, reconcile, redrive
from poller.cli.bundles import bundle
from poller.cli.finding import search
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
            help="show progress, then the result; where nobody begins for a while and there is one"
            " from before, that one",
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


app.command()(search)
app.command()(redrive)
app.command()(reconcile)
app.command()(reanalyze)


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
