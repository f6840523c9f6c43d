"""The whole stack for one owner: servers, bucket, queue, DLQ, notification, migrated database."""

import asyncio
import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from poller.errors import SettingsError
from poller.local import emulator, postgres, resources
from poller.local.keeper import KeptServer
from poller.postgres.migrations import migrate


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything is."""

    aws: Mapping[str, str]
    """`AWS_ENDPOINT_URL`, credentials and region."""
    queues: resources.QueuePair
    bucket: str
    database_url: str
    servers: tuple[KeptServer, ...]
    """The embedded ones."""
    results_bucket: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Every variable that `poller run`, the other commands and the tests need."""
        results = self.results_bucket
        return {
            **self.aws,
            "POLLER_QUEUE_URL": self.queues.url,
            "POLLER_DLQ_URL": self.queues.dlq_url,
            "POLLER_RAW_BUCKET": self.bucket,
            "POLLER_DATABASE_URL": self.database_url,
            **({} if results is None else {"POLLER_RESULTS_BUCKET": results}),
        }


@contextmanager
def running(
    logs: Path,
    *,
    aws_port: int | None = None,
    postgres_port: int | None = None,
    with_results: bool = False,
) -> Iterator[Stack]:
    """Start what the environment does not name, fill it, and end it with the block.

    `with_results` also makes a bucket for pictures and result files.

    `AWS_ENDPOINT_URL` and `POLLER_DATABASE_URL` name servers to use instead. In those only what
    this stack created is removed at the end: its bucket, queues and database.

    Raises:
        EmbeddedServerError: if an embedded server does not start.
        UnavailableError: if a named server cannot be reached.
        SettingsError: if the named role may not create databases.
    """
    logs.mkdir(parents=True, exist_ok=True)
    name = f"poller-{secrets.token_hex(4)}"
    with ExitStack() as cleanup:
        servers: list[KeptServer] = []
        cleanup.callback(_stop, servers)
        aws = _aws(servers, logs, aws_port)
        server_url = _database_server(servers, logs, postgres_port)
        # Embedded servers take everything with them; out of named ones it is removed.
        if os.environ.get("POLLER_DATABASE_URL"):
            cleanup.callback(lambda: asyncio.run(postgres.drop_database(server_url, name)))
        results = f"{name}-results" if with_results else None
        queues, database_url = asyncio.run(_fill(aws, server_url, name, results))
        stack = Stack(aws, queues, name, database_url, tuple(servers), results)
        if os.environ.get("AWS_ENDPOINT_URL"):
            cleanup.callback(lambda: asyncio.run(_delete_resources(stack)))
        yield stack


def _stop(servers: Iterable[KeptServer]) -> None:
    with ExitStack() as stops:  # all are stopped, even where one does not stop in time
        for server in servers:
            stops.callback(server.stop)


def aws_environment(endpoint_url: str) -> dict[str, str]:
    """The `AWS_*` variables for an emulator; credentials that are set already are kept."""
    return {"AWS_ENDPOINT_URL": endpoint_url} | {
        name: os.environ.get(name, default) for name, default in emulator.CREDENTIALS.items()
    }


def _aws(servers: list[KeptServer], logs: Path, port: int | None) -> dict[str, str]:
    if named := os.environ.get("AWS_ENDPOINT_URL"):
        return aws_environment(named)
    started = emulator.start(logs / "emulator.log", port=port)
    servers.append(started.server)
    return {"AWS_ENDPOINT_URL": started.endpoint_url} | emulator.CREDENTIALS


def _database_server(servers: list[KeptServer], logs: Path, port: int | None) -> str:
    if named := os.environ.get("POLLER_DATABASE_URL"):
        return named
    started = postgres.start(logs / "postgres.log", port=port)
    servers.append(started.server)
    # The service is promised to need no superuser, so it is given none.
    return asyncio.run(postgres.create_role(started.url, "poller"))


async def _fill(
    aws: dict[str, str], server_url: str, name: str, results: str | None
) -> tuple[resources.QueuePair, str]:
    database_url = await postgres.create_database(server_url, name)
    await migrate(database_url)
    async with resources.connect(aws) as clients:
        queues = await resources.create_queue_pair(clients.sqs, name)
        await resources.create_bucket(clients.s3, name, announce_to=queues)
        if results is not None:
            await resources.create_bucket(clients.s3, results)
        await resources.take_test_event(clients.sqs, queues)
    return queues, database_url


async def _delete_resources(stack: Stack) -> None:
    async with resources.connect(stack.aws) as clients:
        for bucket in filter(None, (stack.bucket, stack.results_bucket)):
            await resources.delete_bucket(clients.s3, bucket)
        await resources.delete_queue_pair(clients.sqs, stack.queues)


def check_unclaimed(path: Path) -> None:
    """Check that `.env.local` may be written, and remove one whose stack is gone.

    Raises:
        SettingsError: it describes a stack that still answers, or somebody else wrote it.
    """
    if not path.exists():
        return
    variables = dict(line.partition("=")[::2] for line in path.read_text().splitlines())
    endpoint = urlsplit(variables.get("AWS_ENDPOINT_URL", ""))
    if not endpoint.hostname or not endpoint.port:
        raise SettingsError([f"{path} is not from `poller local`: move it away"])
    try:
        socket.create_connection((endpoint.hostname, endpoint.port), timeout=5).close()
    except OSError:
        path.unlink()
        return
    raise SettingsError(
        [f"{path} describes a stack that runs at {endpoint.netloc}: end that one, or remove it"]
    )


@contextmanager
def described(stack: Stack, path: Path) -> Iterator[None]:
    """Have `.env.local` while the block runs: `set -a; . ./.env.local; set +a` takes it over.

    Raises:
        SettingsError: another stack was described there meanwhile.
    """
    text = "".join(f"{name}={value}\n" for name, value in stack.environment.items())
    try:
        path.touch(mode=0o600, exist_ok=False)  # it holds the database password
    except FileExistsError as error:
        raise SettingsError([f"{path} was written by somebody else meanwhile"]) from error
    path.write_text(text)
    try:
        yield
    finally:
        # What it names is gone, but not what somebody else may have put in its place.
        if path.exists() and path.read_text() == text:
            path.unlink()
