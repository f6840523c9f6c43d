"""Bundles that lie in S3."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.factories_bundle import EMBEDDER, write_bundle, write_embedder

from inference.bundle import Bundle, read_bundle
from inference.manifest import BundleError
from poller import bundles
from poller.bundles import CACHE, KEPT, bundle_at, obtained_bundle
from poller.cli.bundle import check
from poller.errors import RetryableError, SettingsError, SupersededError, UnavailableError
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
    await upload(clients, bucket, "people", bundle)
    return f"s3://{bucket}/people"


async def upload(clients: Clients, bucket: str, prefix: str, bundle: Bundle) -> None:
    """Put a bundle into the bucket."""
    for path in ["bundle.toml", *bundle.manifest.files]:
        await clients.s3.put_object(
            Bucket=bucket, Key=f"{prefix}/{path}", Body=(bundle.root / path).read_bytes()
        )


def kept(work_dir: Path) -> set[Path]:
    """The bundles in the cache."""
    return {path.parent for path in (work_dir / CACHE).glob("*/bundle.toml")}


async def test_two_tasks_fetch_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first and finds its copy; neither removes what the other has."""
    begun, free = asyncio.Event(), asyncio.Event()
    fetched = []
    really_bring = bundles._bring

    async def bring(objects: Objects, bucket: str, key: str, path: Path) -> None:
        fetched.append(key.rpartition("/")[2])
        begun.set()
        await free.wait()
        await really_bring(objects, bucket, key, path)

    async def obtain() -> tuple[Bundle | None, bool]:
        async with obtained_bundle(address, tmp_path) as bundle:
            return bundle, bundle is not None and (bundle.root / "bundle.toml").exists()

    monkeypatch.setattr(bundles, "_bring", bring)
    first = asyncio.create_task(obtain())
    await begun.wait()
    second = asyncio.create_task(obtain())
    free.set()

    both = await asyncio.gather(first, second)

    assert both[0] == both[1]
    assert both[0][1]
    assert len(kept(tmp_path)) == 1
    assert fetched.count("bundle.toml") == 2
    assert fetched.count("model.safetensors") == 1


async def test_a_damaged_copy_is_mended_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks of a host that find it damaged: the one does not remove what the other fetched."""
    async with bundle_at(address, tmp_path) as bundle:
        weights = bundle.root / "embedder" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(b"damaged")
    seen = []
    really_read = bundles._read_kept

    def read(place: Path, said: bytes) -> Bundle | None:
        seen.append(really_read(place, said))
        return seen[-1]

    async def obtain() -> bytes:
        async with bundle_at(address, tmp_path) as bundle:
            return (bundle.root / "embedder" / "model.safetensors").read_bytes()

    monkeypatch.setattr(bundles, "_read_kept", read)

    both = await asyncio.gather(obtain(), obtain())

    assert set(both) == {good}
    assert [found is None for found in seen] == [True, False]


async def test_the_bundles_used_last_are_kept(
    address: str, clients: Clients, bucket: str, tmp_path: Path
) -> None:
    """Older ones make room, but for those that a task uses; what is wanted again comes back."""
    made = tmp_path / "made"
    work = tmp_path / "work"
    work.mkdir()
    used: list[Path] = []
    async with bundle_at(address, work) as in_use:
        for number in range(KEPT + 1):
            text = (made / "bundle.toml").read_text()
            (made / "bundle.toml").write_text(
                text.replace(f'version = "{number + 1}"', f'version = "{number + 2}"')
            )
            await upload(clients, bucket, f"v{number}", read_bundle(made))
            async with bundle_at(f"s3://{bucket}/v{number}", work) as newer:
                used.append(newer.root)

        assert len(set(used)) == KEPT + 1
        assert kept(work) == {in_use.root, *used[-KEPT:]}

    async with bundle_at(f"s3://{bucket}/v0", work) as again:
        assert kept(work) == {again.root, *used[-KEPT + 1 :]}


async def test_an_outage_is_no_wrong_setting(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start ends as where SQS is away: with what cannot be reached, not with a setting."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(UnavailableError, match="s3"):
        async with bundle_at(address, tmp_path):
            pass


@pytest.mark.parametrize(
    "fault",
    [SupersededError("it was overwritten"), RetryableError("object_unreadable", "a bad request")],
)
async def test_a_fault_that_passes_is_no_wrong_setting(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """A bundle that is overwritten while it is fetched is one to fetch again: exit 1, not 2."""

    async def bring(*_: object) -> None:
        raise fault

    monkeypatch.setattr(bundles, "_bring", bring)

    with pytest.raises(UnavailableError, match=str(fault)):
        async with obtained_bundle(address, tmp_path):
            pass


async def test_what_the_disk_refuses_is_one_line(address: str, tmp_path: Path) -> None:
    """A file where the cache should be, and a directory where a bundle's file should be."""
    (tmp_path / CACHE).write_text("in the way")
    local = tmp_path / "made"
    weights = local / "embedder" / "model.safetensors"
    weights.unlink()
    weights.mkdir()

    with pytest.raises(SettingsError, match=r"cannot be kept in .*: File exists"):
        async with obtained_bundle(address, tmp_path):
            pass
    with pytest.raises(SettingsError, match=r"model\.safetensors: is missing"):
        async with obtained_bundle(str(local), None):
            pass


async def test_a_bundle_in_s3_is_checked(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`poller bundle check s3://…` fetches it, and says as much as of a directory."""
    monkeypatch.setenv("POLLER_WORK_DIR", str(tmp_path))

    await check(address, "cpu", as_json=True)

    report = json.loads(capsys.readouterr().out)
    assert (report["loads"], report["title"]) == (True, "people-1")
    assert report["parts"]["embedder"]["text"] == "no"  # it has no tokenizer
    assert len(kept(tmp_path)) == 1
    with pytest.raises(SettingsError, match=r"object_missing: s3://.*/nothing/bundle\.toml"):
        await check(address.replace("/people", "/nothing"), "cpu", as_json=True)
    assert json.loads(capsys.readouterr().out)["loads"] is False


@pytest.mark.parametrize("place", ["directory", "s3"])
async def test_a_bundle_that_was_never_sealed(
    address: str, clients: Clients, bucket: str, tmp_path: Path, place: str
) -> None:
    """Of a directory the whole command that seals it; of one in S3, where that is to be done."""
    manifest = tmp_path / "made" / "bundle.toml"
    manifest.write_text(manifest.read_text().partition("[files]")[0])
    key = "people/bundle.toml"
    await clients.s3.put_object(Bucket=bucket, Key=key, Body=manifest.read_bytes())
    asked, remedy = {
        "directory": (str(tmp_path / "made"), f"run `poller bundle seal {tmp_path / 'made'}`; if"),
        "s3": (address, "seal it where it was made, and upload all of it again"),
    }[place]

    with pytest.raises(SettingsError) as refused:
        async with obtained_bundle(asked, tmp_path):
            pass

    (line,) = refused.value.lines
    assert f"POLLER_MODEL={asked}: bundle.toml: has no [files]: " in line
    assert remedy in line


async def test_other_bytes_in_s3_than_were_sealed(
    address: str, clients: Clients, bucket: str, tmp_path: Path
) -> None:
    """The remedy is not a command for a directory that is gone by then."""
    key = "people/embedder/model.safetensors"
    await clients.s3.put_object(Bucket=bucket, Key=key, Body=b"other")

    with pytest.raises(BundleError, match=r"has sha256 .*: seal it where it was made, and upload"):
        async with bundle_at(address, tmp_path):
            pass
