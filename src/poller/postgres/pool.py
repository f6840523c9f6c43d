"""Connections: how they are opened, bounded in time, and how their failures read."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import asyncpg
from pgvector.asyncpg import register_vector

from poller.errors import UnavailableError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    OwnConnection = asyncpg.Connection[asyncpg.Record]
    Connection = OwnConnection | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:  # generic only in the stubs
    OwnConnection = Connection = asyncpg.Connection
    Pool = asyncpg.Pool

DatabaseUrl = Callable[[bool], Awaitable[str]]
"""Gives the URL to connect to; True asks for a fresh one, after a refused password."""

_CONNECT_SECONDS = 10.0
_ACQUIRE_SECONDS = 15.0
_RELEASE_SECONDS = 5.0
_SERVER_SETTINGS = {
    "application_name": "video-poller",
    # A frozen worker must not hold row locks longer than its rivals are willing to wait.
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "10s",
    "statement_timeout": "60s",
}
# Outages and interruptions; anything else (a syntax error, a broken constraint) is a bug.
_OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    # A terminated backend can surface as this one, which is neither of the two base classes.
    asyncpg.InternalClientError,
)


@cache
def query(name: str) -> str:
    """Load a statement from `queries/`."""
    return (files("poller.postgres") / "queries" / f"{name}.sql").read_text("utf-8")


@contextmanager
def outages_translated() -> Iterator[None]:
    """Turn what an outage looks like in asyncpg into `UnavailableError`."""
    try:
        yield
    except _OUTAGES as error:
        raise UnavailableError("postgres", f"{type(error).__name__}: {error}") from error


async def connect(database_url: str) -> OwnConnection:
    """Open one connection with the settings that all of ours have.

    Raises:
        UnavailableError: when the server cannot be reached or refuses us.
    """
    with outages_translated():
        connection = await asyncpg.connect(
            database_url,
            timeout=_CONNECT_SECONDS,
            command_timeout=90,
            # COPY caches column types for ever with the statement cache on, and stores garbage
            # after a migration elsewhere; without it PgBouncer works too.
            statement_cache_size=0,
            server_settings=_SERVER_SETTINGS,
        )
        try:
            await _register_types(connection)
        except BaseException:  # a beat that is called off, most of all
            connection.terminate()
            raise
        return connection


@asynccontextmanager
async def opened(database_url: DatabaseUrl, *, max_size: int) -> AsyncIterator[Pool]:
    """A pool that opens its connections when they are first needed."""

    async def open_connection(*_: Any, **__: Any) -> OwnConnection:
        try:
            return await connect(await database_url(False))
        except UnavailableError as error:
            if not isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
                raise
            return await connect(await database_url(True))  # the password was rotated

    pool = await asyncpg.create_pool(connect=open_connection, min_size=0, max_size=max_size)
    try:
        yield pool
    finally:
        await _close(pool)


@asynccontextmanager
async def acquired(pool: Pool, *, seconds: float | None = None) -> AsyncIterator[Connection]:
    """Borrow a connection, for a bounded wait, with outages translated.

    `seconds` bounds the wait and the body together, for statements that are short when all is
    well: a server that accepts and does not answer is away.
    """
    with outages_translated():
        async with asyncio.timeout(seconds), _borrowed(pool) as connection:
            yield connection


@asynccontextmanager
async def _borrowed(pool: Pool) -> AsyncIterator[Connection]:
    connection = await pool.acquire(timeout=_ACQUIRE_SECONDS)
    try:
        yield connection
    except (TimeoutError, asyncio.CancelledError):
        # A server that does not answer would not answer a request to cancel either, and
        # asyncpg would wait for that before it gives the connection back.
        connection.terminate()
        raise
    finally:
        await pool.release(connection, timeout=_RELEASE_SECONDS)


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except (TimeoutError, *_OUTAGES):
        pool.terminate()


async def _register_types(connection: OwnConnection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",  # COPY is binary, so the codec must be
        encoder=lambda value: b"\x01" + json.dumps(value).encode(),
        decoder=lambda data: json.loads(data[1:]),
    )
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector'"
    )
    if schema is not None:  # before the first migration there is none
        await register_vector(connection, schema=schema)
