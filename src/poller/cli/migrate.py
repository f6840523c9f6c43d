"""`poller migrate`."""

from rich.console import Console

from poller.cli.access import database_url
from poller.postgres import migrations
from poller.settings import load


async def migrate() -> None:
    """Apply what is missing and say what it was.

    Raises:
        SettingsError: no database is named, or its pgvector is too old.
        UnavailableError: the database cannot be reached.
    """
    applied = await migrations.migrate(await database_url(load()))
    console = Console()
    for revision in applied:
        console.print(f"applied {revision}")
    if not applied:
        console.print("the database is up to date")
