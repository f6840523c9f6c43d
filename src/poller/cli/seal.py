"""`poller bundle seal`."""

from pathlib import Path

from rich.console import Console

from inference.bundle import seal_bundle
from inference.manifest import MANIFEST, BundleError
from poller.errors import SettingsError


def seal(path: Path) -> None:
    """Write down the SHA-256 of each file, and say how many there are.

    Raises:
        SettingsError: the bundle is wrong.
    """
    try:
        count = seal_bundle(path)
    except BundleError as error:
        raise SettingsError([str(error)]) from error
    Console(highlight=False, soft_wrap=True).print(f"{count} files are listed in {path / MANIFEST}")
