"""What the reference says exists, and what exists it says."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from poller import metrics
from poller.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")


def test_every_setting_is_documented() -> None:
    """And no other."""
    documented = set(re.findall(r"^\| `(POLLER_\w+)`", REFERENCE, re.MULTILINE))

    assert documented == {f"POLLER_{name.upper()}" for name in Settings.model_fields}


def test_every_metric_is_documented() -> None:
    """And no other."""
    assert metrics
    documented = set(re.findall(r"^\| `(poller_\w+)`", REFERENCE, re.MULTILINE))
    families = [f for f in REGISTRY.collect() if f.name.startswith("poller_")]

    assert documented == {f.name + "_total" * (f.type == "counter") for f in families}


def test_every_reason_is_documented() -> None:
    """A reason that the code gives to the DLQ has its line of advice."""
    errors = "PermanentError|RetryableError|DecoderFailedError|VideoRejectedError|_RejectedError"
    givers = f"{errors}|Reject|Fail"
    given = set()
    for path in (ROOT / "src").rglob("*.py"):
        if "cli" in path.parts:
            continue  # what a command says goes to nobody's DLQ
        text = path.read_text("utf-8")
        given |= set(re.findall(rf'(?:{givers})\(\s*"(\w+)"', text))

    assert len(given) > 12
    assert {reason for reason in given if f"`{reason}`" not in REFERENCE} == set()


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md", "docs/decisions.md"])
def test_every_file_that_is_named_exists(name: str) -> None:
    """A map that leads nowhere is worse than none."""
    text = (ROOT / name).read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|sql|md|toml|yaml))`|\]\(([\w./]+)\)", text))
    roots = [ROOT, ROOT / "src", ROOT / "src/poller", ROOT / "src/inference", ROOT / "tests"]
    roots += [ROOT / "docs", ROOT / "tests/integration", ROOT / "src/poller/postgres"]

    paths = {first or second for first, second in named}
    assert [p for p in paths if not any((root / p).exists() for root in roots)] == []
