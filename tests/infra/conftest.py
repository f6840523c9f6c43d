"""Environments, each applied once for all who look at it."""

import os
import secrets
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.infra.applied import TERRAFORM, Applied, apply, find_mirror

from poller.local import postgres


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what would be skipped for want of a tool, where `FAIL_WITHOUT_TOOLS=1`."""
    report = yield
    if report.skipped and os.environ.get("FAIL_WITHOUT_TOOLS") == "1":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def mirror() -> Iterator[None]:
    """Look for the provider once: `terraform/check` would search the whole disk each time."""
    with pytest.MonkeyPatch.context() as patch:
        if TERRAFORM and (found := find_mirror()):
            patch.setenv("TF_PLUGIN_DIR", found)
        yield


@pytest.fixture(scope="session")
def environments(
    mirror: None,  # noqa: ARG001 - it is to come first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Applied]]:
    """All of them, made and unmade at the same time: for the most part the provider waits."""
    contexts = {name: apply(name, tmp_path_factory.mktemp(name)) for name in ("dev", "prod")}
    with ThreadPoolExecutor(len(contexts)) as pool:
        made = pool.map(lambda context: context.__enter__(), contexts.values())
        yield dict(zip(contexts, made, strict=True))
        unmade = pool.map(lambda context: context.__exit__(None, None, None), contexts.values())
        assert not any(unmade)


@pytest.fixture
def applied(request: pytest.FixtureRequest, environments: Mapping[str, Applied]) -> Applied:
    """The environment of that name."""
    return environments[request.param]


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of this test's own database, in which nothing was made yet."""
    name = f"test_{secrets.token_hex(6)}"
    yield await postgres.create_database(postgres_url, name)
    await postgres.drop_database(postgres_url, name)
