"""Each test's own database, queues and buckets on the run's servers."""

import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator

import asyncpg
import hypothesis
import pytest

from poller.local import postgres, resources
from tests import services

# A timed test fails on a busy machine, and tells nothing about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_RUN = pytest.StashKey[services.Run]()


def pytest_configure(config: pytest.Config) -> None:
    """Open the run in the process that pytest was started in; xdist's workers inherit it."""
    if not hasattr(config, "workerinput"):
        config.stash[_RUN] = services.Run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers of the run, or leave them to the others that use them."""
    services.disown()
    if _RUN in config.stash:
        config.stash[_RUN].end()


@pytest.fixture(autouse=True)
def _fair_scheduling() -> Iterator[None]:
    """Encoders may change how this process is scheduled, and all that it starts afterwards."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture(scope="session")
def aws() -> Iterator[dict[str, str]]:
    """`AWS_*` variables of the emulator, also set in this process, where boto looks for them."""
    environment = services.aws()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """A role that may create databases, and no superuser."""
    return services.postgres_url()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a migrated, empty database."""
    assert postgres_url
    return services.template_database()


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """The URL of this test's own migrated, empty database."""
    name = f"test_{secrets.token_hex(6)}"
    yield await postgres.create_database(postgres_url, name, template=template_database)
    await postgres.drop_database(postgres_url, name)


@pytest.fixture
async def database(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection to this test's database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def clients(aws: dict[str, str]) -> AsyncIterator[resources.Clients]:
    """Plain S3 and SQS clients for arranging and for looking at what came out."""
    async with resources.connect(aws) as clients:
        yield clients


@pytest.fixture
async def queues(clients: resources.Clients) -> AsyncIterator[resources.QueuePair]:
    """This test's own queue with its DLQ (maxReceiveCount 10, visibility 900 s)."""
    pair = await resources.create_queue_pair(clients.sqs, f"test-{secrets.token_hex(6)}")
    yield pair
    await resources.delete_queue_pair(clients.sqs, pair)


@pytest.fixture
def queue(queues: resources.QueuePair) -> str:
    """The URL of this test's queue."""
    return queues.url


@pytest.fixture
def dlq(queues: resources.QueuePair) -> str:
    """The URL of the DLQ of this test's queue."""
    return queues.dlq_url


@pytest.fixture
async def bucket(clients: resources.Clients) -> AsyncIterator[str]:
    """This test's own bucket, which announces nothing."""
    name = f"test-{secrets.token_hex(6)}"
    await resources.create_bucket(clients.s3, name)
    yield name
    await resources.delete_bucket(clients.s3, name)


@pytest.fixture
async def announced_bucket(
    clients: resources.Clients, queues: resources.QueuePair
) -> AsyncIterator[str]:
    """This test's own bucket, whose uploads S3 announces to this test's queue."""
    name = f"test-{secrets.token_hex(6)}"
    await resources.create_bucket(clients.s3, name, announce_to=queues)
    yield name
    await resources.delete_bucket(clients.s3, name)


@pytest.fixture
def settings_env(
    aws: dict[str, str], queues: resources.QueuePair, announced_bucket: str, database_url: str
) -> dict[str, str]:
    """The environment of a process that runs a `poller` command: quick to poll, on the CPU."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("POLLER_")
    }
    return inherited | {
        **aws,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",  # noqa: PTH120  # a string to put in a string
        "POLLER_QUEUE_URL": queues.url,
        "POLLER_DLQ_URL": queues.dlq_url,
        "POLLER_RAW_BUCKET": announced_bucket,
        "POLLER_DATABASE_URL": database_url,
        "POLLER_WAIT_TIME_SECONDS": "1",
        "POLLER_HTTP_PORT": "0",
        "POLLER_DEVICE": "cpu",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
