"""Where `POLLER_MODEL` points to: a bundle on the local disk, fetched first where it is in S3."""

import asyncio
import errno
import fcntl
import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from inference.bundle import Bundle, read_bundle, read_manifest
from inference.manifest import MANIFEST, BundleError, UnsealedError
from poller.errors import (
    PermanentError,
    RetryableError,
    SettingsError,
    SupersededError,
    UnavailableError,
)
from poller.s3 import Objects, open_client
from poller.workspace import NO_TEMPORARY, open_workspace

BUILTIN = "builtin"
CACHE = "poller-bundles"
"""In the work directory. Where a deployment mounts a volume there, it outlives the task."""
KEPT = 3
"""Bundles in the cache, those used last: the one before is wanted again when a task goes back."""
_S3 = "s3://"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_LOCK = "lock"
_WAIT_SECONDS = 0.2
"""Between two looks whether another task has the cache for itself."""


@asynccontextmanager
async def obtained_bundle(model: str, work_dir: Path | None) -> AsyncIterator[Bundle | None]:
    """The verified bundle that `POLLER_MODEL` names, there for as long as the block runs.

    None for `builtin`. Raises `SettingsError` where `bundle_at` raises `BundleError`.
    """
    async with AsyncExitStack() as stack:
        bundle = None
        try:
            if model != BUILTIN:
                bundle = await stack.enter_async_context(bundle_at(model, work_dir))
        except BundleError as error:
            raise SettingsError([f"POLLER_MODEL={model}: {error}"]) from error
        yield bundle


@asynccontextmanager
async def bundle_at(place: str, work_dir: Path | None) -> AsyncIterator[Bundle]:
    """The verified bundle in a directory or at `s3://bucket/prefix`.

    One in S3 is kept in the work directory (None: the system's temporary directory), the only place
    that a task with a read-only root may write to; a volume there keeps it for the next task.

    Raises:
        BundleError: there is none, or it cannot be used.
        UnavailableError: S3 is away, or the disk is full.
    """
    async with AsyncExitStack() as stack:
        try:
            if place.startswith(_S3):
                bundle, held = await _obtain(place, _cache(work_dir))
                stack.enter_context(held)
            else:
                bundle = await asyncio.to_thread(read_bundle, Path(place))
        except UnsealedError as error:
            raise BundleError(f"{error}: {_remedy(place)}") from error
        except OSError as error:
            raise BundleError(f"{error.filename}: {error.strerror}") from error
        yield bundle


def _remedy(place: str) -> str:
    if place.startswith(_S3):
        return "seal it where it was made, and upload all of it again"
    seal = f"`poller bundle seal {shlex.quote(place)}`"
    return f"if the files are right as they are, run {seal}; if not, copy them again"


def _cache(work_dir: Path | None) -> Path:
    """Where bundles from S3 are kept.

    Raises:
        BundleError: no directory is named, and the system has none that may be written to.
    """
    try:
        return Path(work_dir or tempfile.gettempdir()) / CACHE
    except FileNotFoundError as error:
        raise BundleError(NO_TEMPORARY) from error


async def _obtain(address: str, cache: Path) -> tuple[Bundle, IO[str]]:
    """The bundle in the cache, and the open file by which it is known to be in use."""
    bucket, _, prefix = address.removeprefix(_S3).strip("/").partition("/")
    if not bucket:
        raise BundleError("names no bucket")
    try:
        await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
        async with _alone(cache):
            bundle = await _fetch(bucket, f"{prefix}/" if prefix else "", cache)
            os.utime(bundle.root)
            await asyncio.to_thread(_evict, cache)
            held = (bundle.root / MANIFEST).open()
            fcntl.flock(held, fcntl.LOCK_SH)
    except PermanentError as error:
        raise BundleError(str(error)) from error
    except (RetryableError, SupersededError) as error:  # overwritten in the midst of it, say
        raise UnavailableError("s3", str(error)) from error
    except OSError as error:
        if error.errno in _FULL:
            raise UnavailableError("disk", f"{cache}: {error.strerror}") from error
        raise BundleError(f"cannot be kept in {cache}: {error.strerror}") from error
    return bundle, held


@asynccontextmanager
async def _alone(cache: Path) -> AsyncIterator[None]:
    """Have the cache for oneself: what is looked at there, nobody else replaces or removes.

    The kernel drops the lock when its owner dies. Whoever waits for it waits for the very bundle
    that is being fetched, most likely, and may be cancelled.
    """
    with (cache / _LOCK).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_WAIT_SECONDS)
        yield


async def _fetch(bucket: str, prefix: str, cache: Path) -> Bundle:
    """Bring a bundle from S3, unless it is there already.

    Its place is known by what its `bundle.toml` says, which lists the SHA-256 of each file: what is
    complete there never changes.
    """
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
            fetched = await asyncio.to_thread(read_bundle, root)
            root.rename(place)
    return replace(fetched, root=place)


def _read_kept(place: Path, said: bytes) -> Bundle | None:
    """What was fetched before; what does not verify any more makes room for another try."""
    try:
        if (place / MANIFEST).read_bytes() == said:
            return read_bundle(place)
    except (BundleError, OSError):
        pass
    shutil.rmtree(place, ignore_errors=True)
    return None


def _evict(cache: Path) -> None:
    """Remove all but the bundles that were used last and those that some task uses."""
    bundles = [path for path in cache.iterdir() if (path / MANIFEST).is_file()]
    bundles.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for place in bundles[KEPT:]:
        try:
            with (place / MANIFEST).open("r+") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue  # in use, or not ours to remove


async def _bring(objects: Objects, bucket: str, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    await objects.fetch(await objects.head(bucket, key), path, lambda: None)
