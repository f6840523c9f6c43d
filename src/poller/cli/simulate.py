"""`poller simulate`: its options; what it does is imported when it runs, so `--help` is quick."""

from pathlib import Path
from typing import Annotated

import typer

_OWNER = "What the owner decides (the variables of Terraform)"
_WORLD = "What the world is like: check yours"


def simulate(
    arrivals: Annotated[
        str,
        typer.Argument(
            metavar="[daily|constant|burst|FILE.csv]",
            help="`daily`: twice the mean in the afternoon and none at four in the morning;"
            " `constant`: by chance at any time; `burst`: as constant, and `--burst` more within"
            " a minute, halfway; a CSV with a column `arrived_at` and, if known, `seconds`",
        ),
    ] = "daily",
    per_hour: Annotated[float, typer.Option(min=0, help="uploads an hour, mean")] = 20,
    hours: Annotated[float, typer.Option(min=0.1, max=8784, help="how long uploads come")] = 168,
    burst: Annotated[int, typer.Option(min=0, help="uploads of the burst")] = 1000,
    acceptable_wait: Annotated[
        float | None,
        typer.Option(
            help="`acceptable_wait_seconds`, default 600: less is quicker and costs more",
            rich_help_panel=_OWNER,
        ),
    ] = None,
    seconds_per_video: Annotated[
        float | None,
        typer.Option(
            help="`seconds_per_video`, default 60: of a busy task, from one result to the next",
            rich_help_panel=_OWNER,
        ),
    ] = None,
    max_tasks: Annotated[
        int | None, typer.Option(help="`max_tasks`, default 4", rich_help_panel=_OWNER)
    ] = None,
    quiet: Annotated[
        int | None,
        typer.Option(help="`quiet_seconds`, default 900, in whole minutes", rich_help_panel=_OWNER),
    ] = None,
    warm: Annotated[
        str | None,
        typer.Option(
            metavar="FROM-TO",
            help="`warm`: hours in which one task is kept, Monday to Friday, such as 7-19; UTC,"
            " where a CSV says when",
            rich_help_panel=_OWNER,
        ),
    ] = None,
    on_demand_base: Annotated[
        int,
        typer.Option(
            min=0,
            help="`on_demand_base`: so many instances are no spot",
            rich_help_panel=_OWNER,
        ),
    ] = 0,
    concurrent: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="`max_concurrent_videos` of a task", rich_help_panel=_OWNER
        ),
    ] = 4,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="what was applied, from `terraform output -json stack`; the options above that"
            " are given go before it",
            rich_help_panel=_OWNER,
        ),
    ] = None,
    spread: Annotated[
        float,
        typer.Option(
            min=0,
            max=5,
            help="how unlike the videos are: deviation of their work as part of its mean",
            rich_help_panel=_WORLD,
        ),
    ] = 0.5,
    instance_start: Annotated[
        float,
        typer.Option(
            min=0,
            help="until an instance takes a task, s",
            rich_help_panel=_WORLD,
        ),
    ] = 180,
    task_start: Annotated[
        float,
        typer.Option(
            min=0,
            help="until a task on a new instance (pull of the image included) receives, s",
            rich_help_panel=_WORLD,
        ),
    ] = 120,
    spot_losses: Annotated[
        float,
        typer.Option(
            min=0, max=10, help="times an hour that a spot instance is lost", rich_help_panel=_WORLD
        ),
    ] = 0.01,
    price: Annotated[
        float,
        typer.Option(
            min=0,
            help="dollars an hour on demand: AWS's list price of g5.xlarge in us-east-1, 2026",
            rich_help_panel=_WORLD,
        ),
    ] = 1.006,
    spot_price: Annotated[
        float,
        typer.Option(
            min=0,
            help="dollars an hour of spot, which changes: about 45 % of the list price is a guess",
            rich_help_panel=_WORLD,
        ),
    ] = 0.45,
    database_connections: Annotated[
        int,
        typer.Option(
            min=1,
            help="`max_connections`; RDS gives 4 GiB (db.t4g.medium) about 450",
            rich_help_panel=_WORLD,
        ),
    ] = 450,
    seed: Annotated[int, typer.Option(min=0, help="another one is another week")] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="also draw it, larger")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    r"""Try out targets on paper: waits, GPU hours, dollars, and which limit comes first.

    Uploads, starts of tasks and instances, losses of spot instances, and scaling with the numbers
    and expressions that Terraform applies. Nothing is contacted, and the same command gives the
    same answer. What is left out is in docs/scaling.md.

    - `poller simulate`: a week of 20 uploads an hour
    - `poller simulate --acceptable-wait 1800`: what patience saves
    - `poller simulate burst --per-hour 2 --burst 1000 --hours 24 --max-tasks 20 --plot burst.svg`
    - `poller simulate constant --per-hour 60000 --hours 3 --max-tasks 1000`: a thousand a minute
    - `poller simulate uploads.csv`, from
      `psql -c "\copy (SELECT created_at AS arrived_at FROM videos) TO uploads.csv CSV HEADER"`
    """
    from poller.cli.simulation import Asked, simulate  # noqa: PLC0415 - see the module's docstring

    simulate(
        Asked(
            arrivals=arrivals,
            per_hour=per_hour,
            hours=hours,
            burst=burst,
            spread=spread,
            acceptable_wait_seconds=acceptable_wait,
            seconds_per_video=seconds_per_video,
            max_tasks=max_tasks,
            quiet_seconds=quiet,
            policy=policy,
            warm=warm,
            on_demand_base=on_demand_base,
            slots=concurrent,
            instance_start_seconds=instance_start,
            task_start_seconds=task_start,
            losses_per_hour=spot_losses,
            on_demand_price=price,
            spot_price=spot_price,
            database_connections=database_connections,
            seed=seed,
        ),
        plot=plot,
        as_json=as_json,
    )
