"""Bundles that lie in S3."""

import asyncio
from pathlib import Path

import pytest
from tests.factories_bundle import EMBEDDER, write_bundle, write_embedder

from poller import bundles
from poller.bundles import CACHE, obtain_bundle
from poller.errors import UnavailableError
from poller.local.resources import Clients
from poller.s3 import Objects

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")


@pytest.fixture
async def address(
    aws: dict[str, str],
    clients: Clients,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Where in S3 a bundle lies."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "made"
    write_embedder(root / "embedder", "clip")
    bundle = write_bundle(root, EMBEDDER)
    for path in ["bundle.toml", *bundle.manifest.files]:
        await clients.s3.put_object(
            Bucket=bucket, Key=f"people/{path}", Body=(bundle.root / path).read_bytes()
        )
    return f"s3://{bucket}/people"


async def test_two_tasks_fetch_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither finds the other's copy when it begins; one good copy is left, and nothing else."""
    both = asyncio.Barrier(2)
    really_bring = bundles._bring

    async def bring(objects: Objects, bucket: str, key: str, path: Path) -> None:
        await really_bring(objects, bucket, key, path)
        if key.endswith("safetensors"):
            await both.wait()  # so that both are past the look for a copy

    monkeypatch.setattr(bundles, "_bring", bring)

    first, second = await asyncio.gather(
        obtain_bundle(address, tmp_path), obtain_bundle(address, tmp_path)
    )

    assert first is not None
    assert first == second
    assert list((tmp_path / CACHE).iterdir()) == [first.root]


async def test_an_outage_is_no_wrong_setting(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start ends as where SQS is away: with what cannot be reached, not with a setting."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(UnavailableError, match="s3"):
        await obtain_bundle(address, tmp_path)
