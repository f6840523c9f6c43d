"""Bring the database up to date, from any number of tasks at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from poller.errors import SettingsError
from poller.postgres.pool import outages_translated

_LOCK_KEY = 0x766964656F  # "video"; any constant that nobody else uses
_MIN_PGVECTOR = (0, 8)
_INSTALL = f"install {'.'.join(map(str, _MIN_PGVECTOR))} or newer in the server"


async def migrate(database_url: str) -> list[str]:
    """Apply what is missing and return the revisions applied, oldest first.

    A schema that is newer than this code is left as it is: migrations only add, so that one can go
    back to the version before.

    Raises:
        SettingsError: the server's pgvector is absent or too old.
        UnavailableError: the server cannot be reached.
    """
    async with _connected(database_url) as connection:
        # Held by the session, so that it spans the transactions of all migrations.
        await connection.execute(text(f"SELECT pg_advisory_lock({_LOCK_KEY})"))
        await connection.commit()
        await connection.run_sync(_ensure_pgvector)
        await connection.commit()
        applied = await connection.run_sync(_upgrade)
        await connection.commit()
        return applied


async def pending(database_url: str) -> list[str]:
    """Name the revisions that are not applied yet.

    Raises:
        UnavailableError: the server cannot be reached.
    """
    async with _connected(database_url) as connection:
        return await connection.run_sync(_pending)


def check_pgvector(version: str) -> None:
    """Check a version of pgvector, as Postgres names it.

    Raises:
        SettingsError: it is too old.
    """
    if tuple(int(part) for part in version.split(".")[:2]) < _MIN_PGVECTOR:
        raise SettingsError([f"pgvector {version} is too old: {_INSTALL}"])


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[AsyncConnection]:
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    if ssl := url.query.get("sslmode"):  # libpq's name for what asyncpg calls ssl
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": ssl})
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        with outages_translated():
            async with engine.connect() as connection:
                yield connection
    except DBAPIError as error:
        # SQLAlchemy wraps asyncpg's error twice; whether it is an outage is decided in one place.
        with outages_translated():
            raise (error.orig.__cause__ if error.orig else None) or error from error
    finally:
        await engine.dispose()


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(files("poller") / "postgres"))
    return ScriptDirectory.from_config(config)


def _pending(connection: Connection) -> list[str]:
    script = _script()
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {step.revision for step in script.walk_revisions()}:
        return []
    found = [step.revision for step in script.iterate_revisions("head", current or "base")]
    return found[::-1]


def _upgrade(connection: Connection) -> list[str]:
    missing = _pending(connection)
    if not missing:
        return []
    script = _script()
    with EnvironmentContext(
        Config(),
        script,
        fn=lambda revision, _: script._upgrade_revs("head", revision),  # noqa: SLF001 - what alembic.command.upgrade does, without its env.py
    ) as environment:
        environment.configure(connection=connection)
        with environment.begin_transaction():
            environment.run_migrations()
    return missing


def _ensure_pgvector(connection: Connection) -> None:
    installed, available = connection.execute(
        text(
            "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'), default_version"
            " FROM (VALUES (1)) AS one LEFT JOIN pg_available_extensions ON name = 'vector'"
        )
    ).one()
    version = installed or available
    if version is None:
        raise SettingsError([f"the Postgres server has no pgvector: {_INSTALL}"])
    check_pgvector(version)
    if installed is None:
        try:
            connection.execute(text("CREATE EXTENSION vector"))
        except ProgrammingError as error:
            raise SettingsError(
                [
                    (
                        "this role may not create extensions: have an administrator run"
                        " `CREATE EXTENSION vector` in the database once"
                    )
                ]
            ) from error
