"""`poller bundle`: its commands and options; what they do is imported when they run."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

bundle = typer.Typer(
    help="Look into and seal model bundles: directories with `bundle.toml` and models."
    " docs/bundles.md shows how to make one. `poller bundle check PATH`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
BundlePath = Annotated[Path, typer.Argument(metavar="PATH", help="directory with bundle.toml")]
BundlePlace = Annotated[
    str,
    typer.Argument(
        metavar="PATH|s3://BUCKET/PREFIX",
        help="directory with bundle.toml; one in S3 is fetched to POLLER_WORK_DIR and kept there",
    ),
]


@bundle.command("check")
def check_bundle(
    place: BundlePlace,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Verify a bundle, load each of its parts and run it once. Exit 2 if it cannot be used.

    - `poller bundle check models/people`
    - `poller bundle check s3://models/people`
    - `poller bundle check models/people --json`
    """
    from poller.cli.bundle import check  # noqa: PLC0415

    asyncio.run(check(place, device, as_json=as_json))


@bundle.command("try")
def try_bundle(
    place: BundlePlace,
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="a file", exists=True)],
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`")] = "auto",
    fps: Annotated[float, typer.Option(min=0.1, max=120, help="frames per second")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Show the persons that a bundle finds in a video file; nothing is stored.

    - `poller bundle try models/people holiday.mp4`
    """
    from poller.cli.trial import trial  # noqa: PLC0415

    raise typer.Exit(asyncio.run(trial(place, video, device, fps, as_json=as_json)))


@bundle.command("seal")
def seal_bundle(path: BundlePath) -> None:
    """Write the SHA-256 of each file of the bundle's models into its `bundle.toml`.

    - `poller bundle seal models/people`
    """
    from poller.cli.seal import seal  # noqa: PLC0415

    seal(path)
