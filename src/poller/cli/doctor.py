"""`poller doctor`: everything that `poller run` needs, one line each."""

import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import aiohttp
import numpy as np
from pydantic import ByteSize
from rich.console import Console

from inference.confinement import missing
from inference.decode import Decoding, Limits, Request
from inference.device import Device
from inference.errors import (
    DecoderFailedError,
    DecodersUnavailableError,
    DeviceFaultError,
    VideoRejectedError,
)
from inference.forkserver import ForkServer
from inference.frames import FrameBatch
from inference.samples import write_video
from inference.slabs import Slabs
from poller.bundles import BUILTIN, obtained_bundle
from poller.cli.access import database_url, open_objects, open_queues
from poller.cli.typed import as_typed
from poller.errors import PermanentError, RetryableError, SettingsError, UnavailableError
from poller.gallery import PROBE_KEY
from poller.postgres import migrations
from poller.postgres.pool import connect
from poller.s3 import FREE_BYTES
from poller.settings import Settings, find_unknown, load, require
from poller.workspace import open_workspace


class Doubt(str):
    """What is there, and works, with a reservation."""

    __slots__ = ()


Check = Callable[[Settings], Awaitable[str]]
"""Returns what is there, a `Doubt` perhaps, or raises what is wrong."""
FAULTS = (
    SettingsError,
    UnavailableError,
    PermanentError,
    RetryableError,
    DeviceFaultError,
    DecoderFailedError,
    DecodersUnavailableError,
    VideoRejectedError,
    OSError,
)
_CLIP_SECONDS = 60
_CLIP_FRAMES = 24
_CLIP_SIDE = 64


async def doctor() -> int:
    """Print a line for each check; returns 1 if any fails."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        settings = load()
    except SettingsError as error:
        for line in error.lines:
            console.print(f"[red]✗[/] settings: {line}")
        return 1
    console.print("[green]✓[/] settings: they fit together")
    for name, meant in find_unknown(os.environ).items():
        hint = f"; did you mean {meant}?" if meant else ""
        console.print(f"[yellow]![/] settings: unknown setting {name}{hint}")
    results = [await _report(console, name, check, settings) for name, check in CHECKS.items()]
    return 0 if all(results) else 1


async def _report(console: Console, name: str, check: Check, settings: Settings) -> bool:
    with console.status(name):
        try:
            found = await check(settings)
        except FAULTS as error:
            fault = as_typed(str(error).replace("\n", " "))
        else:
            sign = "[yellow]![/]" if isinstance(found, Doubt) else "[green]✓[/]"
            console.print(f"{sign} {name}: ", end="")
            console.print(found, markup=False)
            return True
    console.print(f"[red]✗[/] {name}: ", end="")
    console.print(fault, markup=False)
    return False


async def check_queue(settings: Settings) -> str:
    """The queue is there, is no FIFO queue, has a DLQ, and may be asked for its depth."""
    async with open_queues(settings) as queues:
        depth = await queues.queue.depth()
    return f"{queues.queue.url}, {depth['visible']} visible, {depth['in_flight']} in flight"


async def check_dlq(settings: Settings) -> str:
    """The DLQ is there and may be asked for its depth."""
    async with open_queues(settings) as queues:
        depth = await queues.dlq.depth()
    return f"{queues.dlq.url}, {depth['visible']} waiting"


async def check_raw_bucket(settings: Settings) -> str:
    """The bucket is there, and objects in it may be read: a missing one is said to be missing."""
    require(settings, "raw_bucket")
    return await _check_bucket(settings.raw_bucket or "")


async def check_results_bucket(settings: Settings) -> str:
    """The bucket for result files, where one is named."""
    if settings.results_bucket is None:
        return "none named, none needed"
    async with open_objects() as objects:
        await objects.check_bucket(settings.results_bucket)
        await objects.put(settings.results_bucket, PROBE_KEY, b"", "text/plain")
    return f"{settings.results_bucket} may be written to"


async def check_database(settings: Settings) -> str:
    """The database can be reached and all migrations are applied."""
    missing = await migrations.pending(await database_url(settings))
    if missing:
        raise SettingsError([f"migrations {', '.join(missing)} are missing: run `poller migrate`"])
    return "reached, migrations are current"


async def check_pgvector(settings: Settings) -> str:
    """Pgvector is installed in the database, and new enough."""
    connection = await connect(await database_url(settings))
    try:
        version = await connection.fetchval(
            "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        )
    finally:
        await connection.close()
    if version is None:
        raise SettingsError(["not in this database: run `poller migrate`"])
    migrations.check_pgvector(version)
    return str(version)


async def check_work_dir(settings: Settings) -> str:
    """The directory for fetched videos is there and may be written to.

    Little room is said, and is no fault: few videos are as large as they may be.
    """
    directory = settings.work_dir
    try:
        directory = directory or Path(tempfile.gettempdir())
        with tempfile.TemporaryDirectory(dir=directory):
            total, _, free = shutil.disk_usage(directory)
    except OSError as error:
        raise SettingsError([f"POLLER_WORK_DIR={directory or ''}: {error.strerror}"]) from error
    if total <= FREE_BYTES:
        line = f"a disk of {ByteSize(total).human_readable()} has room for no video"
        kept = ByteSize(FREE_BYTES).human_readable()
        raise SettingsError([f"POLLER_WORK_DIR={directory}: {line}: {kept} stay free"])
    largest = settings.max_video_bytes * settings.max_concurrent_videos
    enough = (
        ""
        if free >= largest
        else (
            f", less than {settings.max_concurrent_videos} videos of POLLER_MAX_VIDEO_BYTES take:"
            f" {ByteSize(largest).human_readable()}"
        )
    )
    said = f"{directory}, {ByteSize(free).human_readable()} free{enough}"
    return Doubt(said) if enough else said


async def check_device(settings: Settings) -> str:
    """The device process starts: torch loads and the device is there."""
    device = Device(settings.device)
    try:
        await device.start()
    finally:
        await device.close()
    return f"POLLER_DEVICE={settings.device} is {device.name}"


async def check_model(settings: Settings) -> str:
    """The bundle that `POLLER_MODEL` names verifies; one in S3 is fetched as at the start."""
    if settings.model == BUILTIN:
        return "the built-in analysis"
    with open_workspace(settings.work_dir):  # refuses a directory that is not there
        async with obtained_bundle(settings.model, settings.work_dir) as bundle:
            return "" if bundle is None else bundle.title


async def check_decoder(settings: Settings) -> str:
    """A clip that is made on the spot is decoded in a process of its own, within its limits."""
    limits = Limits(
        max_seconds=_CLIP_SECONDS,
        stall_seconds=settings.decoder_stall_seconds,
        total_seconds=_CLIP_SECONDS,
        memory_bytes=settings.decoder_memory_bytes,
    )
    with tempfile.TemporaryDirectory() as directory:
        clip = Path(directory) / "clip.mp4"
        picture = np.full((_CLIP_SIDE, _CLIP_SIDE, 3), 128, np.uint8)
        write_video(clip, enumerate([picture] * _CLIP_FRAMES))
        frames = await _count_frames(clip, limits)
    if frames != _CLIP_FRAMES:
        raise DecoderFailedError("decoder_lost_frames", f"{frames} of {_CLIP_FRAMES} came out")
    return f"{frames} frames of a clip that was made here"


async def check_cage(_: Settings) -> str:
    """What the kernel offers to hold a decoder back; it works without, so nothing fails."""
    lacks = missing()
    if lacks:
        return Doubt(f"the limits hold; without {'; without '.join(lacks)}")
    return "a decoder reads its code and its own directory, and does nothing else"


async def _count_frames(clip: Path, limits: Limits) -> int:
    frames = 0
    request = Request(clip, sample_fps=None, batch_size=8, threads=1, tolerant=False)
    with closing(Slabs.create(2, 8 * 3 * _CLIP_SIDE**2)) as slabs:
        async with ForkServer() as server, Decoding(server, request, limits, slabs) as decoding:
            async for part in decoding:
                if isinstance(part, FrameBatch):
                    frames += len(part.pts_ms)
                    decoding.release(part)
    return frames


async def check_http_port(settings: Settings) -> str:
    """The port for metrics and health is free, or a poller has it already."""
    if settings.http_port == 0:
        return "any free port"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("", settings.http_port))
        except OSError as error:
            if await _is_poller(settings.http_port):
                return f"port {settings.http_port} is that of a poller that runs"
            raise UnavailableError(
                f"port {settings.http_port}", f"{error}: set POLLER_HTTP_PORT to another one"
            ) from error
    return f"port {settings.http_port} is free"


async def _is_poller(port: int) -> bool:
    """Tell whether `/healthz` on that port answers like ours, well or not."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"http://127.0.0.1:{port}/healthz") as response,
        ):
            answer = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
    return isinstance(answer, dict) and answer.keys() == {"status", "faults"}


async def _check_bucket(bucket: str) -> str:
    async with open_objects() as objects:
        await objects.check_bucket(bucket)
        try:
            await objects.head(bucket, f"poller-doctor/{uuid4()}")
        except PermanentError as error:
            # Without ListBucket a missing object is forbidden, and a typing error looks like one.
            if error.reason != "object_missing":
                raise
    return f"{bucket} may be read; not checked: writing, which would announce an upload"


CHECKS: dict[str, Check] = {
    "queue": check_queue,
    "dlq": check_dlq,
    "raw bucket": check_raw_bucket,
    "results bucket": check_results_bucket,
    "database": check_database,
    "pgvector": check_pgvector,
    "work dir": check_work_dir,
    "model": check_model,
    "device": check_device,
    "decoder": check_decoder,
    "cage": check_cage,
    "http": check_http_port,
}
