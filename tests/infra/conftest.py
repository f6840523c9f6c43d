"""Environments, each applied once for all who look at it."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.infra.applied import Applied, apply

from poller.local import postgres


@pytest.fixture(scope="session")
def applied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Applied]:
    """The environment of that name."""
    with apply(request.param, tmp_path_factory.mktemp(request.param)) as applied:
        yield applied


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of this test's own database, in which nothing was made yet."""
    name = f"test_{secrets.token_hex(6)}"
    yield await postgres.create_database(postgres_url, name)
    await postgres.drop_database(postgres_url, name)
