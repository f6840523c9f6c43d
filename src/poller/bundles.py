"""Where `POLLER_MODEL` points to: a bundle on the local disk, fetched first where it is in S3."""

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path

from inference.bundle import Bundle, read_bundle, read_manifest
from inference.manifest import MANIFEST, BundleError
from poller.errors import PermanentError, RetryableError, SettingsError, SupersededError
from poller.s3 import Objects, open_client
from poller.workspace import open_workspace

BUILTIN = "builtin"
CACHE = "poller-bundles"
"""Not the prefix of `workspace.py`, which clears away what dead workers left. In a deployment, a
volume that outlives the task is mounted there."""
_S3 = "s3://"


async def obtain_bundle(model: str, work_dir: Path | None) -> Bundle | None:
    """The verified bundle that `POLLER_MODEL` names; None for `builtin`.

    One in S3 is kept in the work directory (None: the system's temporary directory), the only place
    that a task with a read-only root may write to; a volume there keeps it for the next task.

    Raises:
        SettingsError: there is none, or it cannot be used.
        UnavailableError: S3 is away, or the disk is full.
    """
    if model == BUILTIN:
        return None
    try:
        if model.startswith(_S3):
            return await _fetch(model, Path(work_dir or tempfile.gettempdir()) / CACHE)
        return await asyncio.to_thread(read_bundle, Path(model))
    except (BundleError, PermanentError, RetryableError, SupersededError) as error:
        raise SettingsError([f"POLLER_MODEL={model}: {error}"]) from error


async def _fetch(address: str, cache: Path) -> Bundle:
    """Bring a bundle from S3, unless it is there already.

    Its place is known by what its `bundle.toml` says, which lists the SHA-256 of each file: what is
    complete there never changes. Several tasks may fetch at once; the first to finish wins.
    """
    bucket, _, prefix = address.removeprefix(_S3).strip("/").partition("/")
    if not bucket:
        raise BundleError("names no bucket")
    prefix = f"{prefix}/" if prefix else ""
    _make(cache)
    # The workspace also removes what a task left that was killed while it fetched.
    with open_workspace(cache) as workspace:
        async with open_client() as client, workspace.job() as unfinished:
            objects, root = Objects(client), unfinished / "bundle"
            await _bring(objects, bucket, f"{prefix}{MANIFEST}", root / MANIFEST)
            said = (root / MANIFEST).read_bytes()
            place = cache / hashlib.sha256(said).hexdigest()
            kept = await asyncio.to_thread(_read_kept, place, said)
            if kept:
                return kept
            for path in read_manifest(root).files:
                await _bring(objects, bucket, f"{prefix}{path}", root / path)
            await asyncio.to_thread(read_bundle, root)
            try:
                root.rename(place)
            except OSError:
                if not _holds(place, said):  # another task was not quicker either
                    raise
    return await asyncio.to_thread(read_bundle, place)


def _read_kept(place: Path, said: bytes) -> Bundle | None:
    """What was fetched before; what does not verify any more makes room for another try."""
    try:
        if _holds(place, said):
            return read_bundle(place)
    except BundleError:
        pass
    shutil.rmtree(place, ignore_errors=True)
    return None


def _make(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f"cannot be kept in {cache}: {error.strerror}") from error


def _holds(place: Path, said: bytes) -> bool:
    manifest = place / MANIFEST
    return manifest.is_file() and manifest.read_bytes() == said


async def _bring(objects: Objects, bucket: str, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    await objects.fetch(await objects.head(bucket, key), path, lambda: None)
