"""`poller demo`: the main job on this machine, with the real service, and every result checked."""

import asyncio
import hashlib
import http.client
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

import inference.samples
from inference.samples import Sample, make_samples
from poller.cli import tables
from poller.cli.access import Queues, open_objects, open_queues, open_reports
from poller.cli.demo_checks import Outcome, Upload, find_faults
from poller.cli.follow import follow
from poller.cli.local import LOGS
from poller.cli.typed import command
from poller.local.emulator import free_port
from poller.local.keeper import KeptServer
from poller.local.stack import Stack, running
from poller.postgres.reports import Reports, Row, Where
from poller.settings import load
from poller.submission import Submission, submit

FIRST_ID = 84
_START_SECONDS = 60
_WORK_SECONDS = 600
_SETTLE_SECONDS = 60
_NEIGHBOURS = 3
_SETTINGS = {
    # A second announcement waits for as long as the first one's lease holds: seconds here, 90 in
    # a deployment.
    "POLLER_LEASE_SECONDS": "6",
    "POLLER_HEARTBEAT_SECONDS": "2",
    "POLLER_WAIT_TIME_SECONDS": "2",
}
_SHOWS = {
    "cuts": "five scenes of two seconds: a shot for each",
    "black": "a picture that is black from 3 to 6 s",
    "freeze": "a picture that stands still from 3 to 6 s",
    "motion": "a ball that crosses a still room from 3 to 7 s",
    "variable": "frames at changing intervals: times are read, not counted",
    "late": "a transport stream whose clock begins at 10 s: its times are kept",
    "damaged": "the five scenes, with the pictures from 4 to 5 s destroyed, a cut among them",
    "not_a_video": "a letter with a video's name: refused, once, with the reason",
}


@dataclass(frozen=True, slots=True)
class Service:
    """The running service."""

    server: KeptServer
    port: int


def demo(*, keep: bool) -> int:
    """Run the demonstration; returns 0 if every expected result is there, else 1.

    Raises:
        EmbeddedServerError: the emulator, Postgres or the service does not start, or ends.
    """
    started = time.monotonic()
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    directory = _sample_directory()
    if not any(directory.iterdir()):
        console.print("Making sample videos …")
    samples = make_samples(directory)
    console.print("Starting S3, SQS and Postgres …")
    with running(LOGS) as stack:
        os.environ.update(stack.environment)
        console.print("Starting the service …")
        with _service() as service:
            uploads = _plan_uploads(samples, stack.bucket)
            faults = asyncio.run(_demonstrate(console, uploads, service))
            console.print(f"It took {time.monotonic() - started:.0f} s.", end=" ")
            console.print(f"The service's log: {LOGS / 'service.log'}", soft_wrap=True)
            if not keep:
                console.print(f"To look around in it all: {command()} demo --keep", soft_wrap=True)
            else:
                _stay(console, stack, service)
    return 1 if faults else 0


def _sample_directory() -> Path:
    """Where the last run's samples are found again, unless the code that makes them changed."""
    version = hashlib.sha256(Path(inference.samples.__file__).read_bytes()).hexdigest()[:12]
    directory = LOGS / f"samples-{version}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _plan_uploads(samples: Sequence[Sample], bucket: str) -> list[Upload]:
    return [
        Upload(
            sample,
            str(FIRST_ID + number),
            (bucket, f"videos/2025/12/29/{uuid4()}_20250526_1937{26 + number}.mp4"),
        )
        for number, sample in enumerate(samples)
    ]


@contextmanager
def _service() -> Iterator[Service]:
    """`poller run` as its own process, as a deployment has it."""
    port = free_port()
    server = KeptServer(
        [sys.executable, "-m", "poller", "run"],
        directory=Path(tempfile.mkdtemp(prefix="poller-service-")),
        log=LOGS / "service.log",
        env=os.environ | _SETTINGS | {"POLLER_HTTP_PORT": str(port)},
    )
    try:
        server.wait_ready(lambda: _is_ready(port), seconds=_START_SECONDS)
        yield Service(server, port)
    finally:
        server.stop()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def _demonstrate(console: Console, uploads: Sequence[Upload], service: Service) -> list[str]:
    settings = load()
    names = {upload.where: f"{upload.sample.name} ({upload.video_id})" for upload in uploads}
    async with open_queues(settings) as queues, open_reports(settings) as reports:
        await _upload(console, uploads, queues)
        await _follow(console, reports, names, service)
        console.print("Waiting until every second announcement is settled …")
        await _wait_settled(queues, service)
        outcome = await _read_outcome(uploads, queues, reports, service)
        await _show(console, uploads, outcome, reports)
    faults = find_faults(uploads, outcome)
    _conclude(console, uploads, outcome, faults)
    return faults


async def _follow(
    console: Console, reports: Reports, names: Mapping[Where, str], service: Service
) -> None:
    async def look() -> Mapping[Where, Row]:
        service.server.check_running()
        return await reports.follow(list(names))

    await follow(console, look, names, _WORK_SECONDS)


async def _upload(console: Console, uploads: Sequence[Upload], queues: Queues) -> None:
    """As an application does: into the bucket, then a message with its own id of the video."""
    async with open_objects() as objects:
        for upload in uploads:
            bucket, key = upload.where
            await submit(
                Submission(upload.sample.name, upload.sample.path, bucket, key),
                objects,
                queues.queue,
                video_id=upload.video_id,
                on_bytes=lambda _: None,
            )
            console.print(f"  uploaded {key} as video {upload.video_id}", soft_wrap=True)


async def _wait_settled(queues: Queues, service: Service) -> None:
    try:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while any((await queues.queue.depth()).values()):
                service.server.check_running()
                await asyncio.sleep(0.5)
    except TimeoutError:
        return  # what is left is counted, and named as a fault


async def _read_outcome(
    uploads: Sequence[Upload], queues: Queues, reports: Reports, service: Service
) -> Outcome:
    places = [upload.where for upload in uploads]
    latest = await reports.follow(places)
    letters = await queues.dlq.receive(limit=10, wait_seconds=1, visibility_seconds=5)
    return Outcome(
        latest=latest,
        audits=await reports.audit(places),
        timelines={
            where: await reports.read_timeline(row["video_id"]) for where, row in latest.items()
        },
        letters=letters,
        duplicates=await _count_duplicates(service.port),
        queued=sum((await queues.queue.depth()).values()),
    )


async def _count_duplicates(port: int) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        text = await response.text()
    counted = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "poller_duplicates_total"
    ]
    return round(sum(counted))


async def _show(
    console: Console, uploads: Sequence[Upload], outcome: Outcome, reports: Reports
) -> None:
    analyses = {row["analysis_id"]: where for where, row in outcome.latest.items()}
    names = {upload.where: upload.sample.name for upload in uploads}
    nearest = await reports.nearest_shots(list(analyses), _NEIGHBOURS)
    called = {analysis: names[where] for analysis, where in analyses.items()}
    console.print(
        "A score says how clear an event is, in a unit of its own kind: for a shot how much the"
        " picture changed at its beginning, for motion the share of it that moves;"
        " docs/analysis.md tells for each.",
        soft_wrap=True,
    )
    for upload in uploads:
        console.rule(f"{upload.sample.name}, id {upload.video_id}")
        console.print(_SHOWS[upload.sample.name])
        row = outcome.latest.get(upload.where)
        if row is None or row["state"] != "done":
            console.print(f"  {row['error_code'] if row else 'no analysis'}")
            continue
        console.print(tables.timeline("Timeline", outcome.timelines[upload.where]))
        near = [other for other in nearest if other["probe_analysis_id"] == row["analysis_id"]]
        if near:
            console.print(tables.neighbours(_like(near[0]), near, called))


def _like(row: Row) -> str:
    start, end = tables.clock(row["probe_start_ms"]), tables.clock(row["probe_end_ms"])
    return f"Shots most like {start}–{end}"  # noqa: RUF001 - a range


def _conclude(
    console: Console, uploads: Sequence[Upload], outcome: Outcome, faults: Sequence[str]
) -> None:
    console.rule("Result")
    done = sum(row["state"] == "done" for row in outcome.latest.values())
    console.print(f"{len(uploads)} uploads, each announced by S3 and by the application")
    console.print(
        f"{done} analysed, once each;"
        f" {outcome.duplicates} duplicate announcements counted, one of each upload"
    )
    for letter in outcome.letters:
        console.print(f"in the DLQ: {letter.texts.get('reason')}: {letter.texts.get('detail')}")
    for fault in faults:
        console.print(f"[red]✗[/] {fault}")
    if not faults:
        console.print("[green]✓[/] every expected result is there")


def _stay(console: Console, stack: Stack, service: Service) -> None:
    for name, value in stack.environment.items():
        console.print(f"  {name}={value}", soft_wrap=True)
    console.print(f"Metrics: http://127.0.0.1:{service.port}/metrics. Ctrl-C ends it.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
