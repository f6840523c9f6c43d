"""The real servers that the tests run against: at most one emulator and one Postgres per test run.

The first worker that needs a server starts it, under a lock; it then belongs to the whole run. It
ends when the process that pytest was started in closes the lifeline, or dies. Servers named by
`AWS_ENDPOINT_URL` and `POLLER_DATABASE_URL` are used instead.
"""

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poller.local import emulator, postgres
from poller.local.keeper import KeptServer
from poller.local.stack import aws_environment
from poller.postgres.migrations import migrate

# The servers that this worker started and that outlive it.
_STARTED: list[KeptServer] = []
_DIRECTORY = "POLLER_TESTS_DIRECTORY"


class Run:
    """Owns the directory and the lifeline of one test run; lives in the process pytest began in."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="poller-tests-"))
        os.environ[_DIRECTORY] = str(self.directory)
        os.mkfifo(self.directory / "lifeline")
        # Opened for both, because opening for writing alone would wait for a reader.
        self._lifeline = os.open(self.directory / "lifeline", os.O_RDWR)

    def end(self) -> None:
        """End the servers, wait until they are gone, and remove what the run left."""
        template = self.directory / "template.json"
        if template.exists() and "POLLER_DATABASE_URL" in os.environ:
            name = json.loads(template.read_text())["name"]
            asyncio.run(postgres.drop_database(os.environ["POLLER_DATABASE_URL"], name))
        os.close(self._lifeline)
        deadline = time.monotonic() + 20
        while any(map(os.path.exists, self._kept())) and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.directory)
        del os.environ[_DIRECTORY]

    def _kept(self) -> list[str]:
        """The directories of the running servers: each server's last act is to remove its own."""
        records = (json.loads(path.read_text()) for path in self.directory.glob("*.json"))
        return [record["directory"] for record in records if "directory" in record]


def disown() -> None:
    """Let go of the servers that this worker started: they belong to the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # they are still running, on purpose
        _STARTED.clear()


def aws() -> dict[str, str]:
    """`AWS_*` variables of the run's emulator."""
    if named := os.environ.get("AWS_ENDPOINT_URL"):
        return aws_environment(named)

    def start() -> dict[str, str]:
        started = emulator.start(_directory() / "emulator.log", lifeline=_lifeline())
        return _record(started.server, started.endpoint_url)

    return {"AWS_ENDPOINT_URL": _once("emulator", start)["url"]} | emulator.CREDENTIALS


def postgres_url() -> str:
    """A role without superuser rights that may create databases, on the run's Postgres."""
    if named := os.environ.get("POLLER_DATABASE_URL"):
        return named

    def start() -> dict[str, str]:
        started = postgres.start(_directory() / "postgres.log", lifeline=_lifeline())
        return _record(started.server, asyncio.run(postgres.create_role(started.url, "tests")))

    return _once("postgres", start)["url"]


def template_database() -> str:
    """The name of a migrated database to clone."""
    server_url = postgres_url()

    def create() -> dict[str, str]:
        name = f"template_{secrets.token_hex(4)}"
        asyncio.run(migrate(asyncio.run(postgres.create_database(server_url, name))))
        return {"name": name}

    return _once("template", create)["name"]


def _directory() -> Path:
    return Path(os.environ[_DIRECTORY])


def _lifeline() -> int:
    return os.open(_directory() / "lifeline", os.O_RDONLY)


def _record(server: KeptServer, url: str) -> dict[str, str]:
    _STARTED.append(server)
    return {"url": url, "directory": str(server.directory)}


def _once(name: str, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What `make` returned in the worker that came first."""
    path = _directory() / f"{name}.json"
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            path.write_text(json.dumps(make()))
        made: dict[str, str] = json.loads(path.read_text())
        return made


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
