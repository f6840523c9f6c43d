"""What `/metrics` says before anything has happened."""

import re
from pathlib import Path

from prometheus_client import Counter
from tests.unit.test_documentation import given_reasons

from poller import metrics
from poller.rules.verdict import Ack, Continue, DeadLetter, Hide, Leave

SOURCES = Path(__file__).parents[2] / "src" / "poller"
TEXT = "".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py"))


def started(metric: Counter) -> set[str]:
    """The values of its only label that are there from the start."""
    return {values[0] for values in metric._metrics}


def named(pattern: str) -> set[str]:
    """What the code passes where the pattern has its group."""
    found = set(re.findall(pattern, TEXT))
    assert found
    return found


def test_every_error_starts_at_zero() -> None:
    """One that appears with its first event has not increased, and no alert would tell of it."""
    systems = named(r'UnavailableError\("([a-z]\w+)"') - {"imds", "ecs"}
    kinds = given_reasons() | named(r'ERRORS\.labels\("(\w+)"\)') | {"postgres", "interrupted"}
    kinds |= {f"{system}_unavailable" for system in systems}

    assert started(metrics.ERRORS) >= kinds


def test_every_system_that_may_be_away_has_its_gauge() -> None:
    """The agent of ECS and the instance's metadata are not waited for."""
    systems = named(r'UnavailableError\("([a-z]\w+)"') | named(r'away="(\w+)"')

    assert set(metrics.SYSTEMS) == systems - {"imds", "ecs"}


def test_every_other_label_starts_at_zero() -> None:
    """As the code names its values."""
    verdicts = {kind.__name__.lower() for kind in (Ack, Continue, DeadLetter, Hide, Leave)}
    ignored = named(r'[( ]Ignore\("(\w+)"') | named(r'IGNORED\.labels\("(\w+)"')

    assert started(metrics.MESSAGES_SETTLED) == verdicts
    assert started(metrics.RECORDS_IGNORED) == ignored
    assert started(metrics.LEASE_LOST) == named(r'LeaseLostError\("(\w+)"')
    assert started(metrics.HEARTBEATS) == named(r'HEARTBEATS\.labels\("(\w+)"')
    assert started(metrics.VIDEOS_FINISHED) == named(r'FINISHED\.labels\("(\w+)"')
    assert started(metrics.DUPLICATES) == {"done", "failed", "superseded"}
