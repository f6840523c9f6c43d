"""From the queue to the commit, against a bare loop and against the flow that it replaces."""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aioboto3
import asyncpg

from bench.material import make_video
from bench.measure import Measurement
from bench.peers import run_split
from bench.stack import service

SECONDS = 30
SAMPLE_FPS = 5.0
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Material:
    """Videos of one kind."""

    name: str
    b_frames: int
    count: int


MATERIALS = (
    # x264's default, as applications and phones write it; and what most cameras write.
    Material("720p with B-frames", b_frames=3, count=12),
    Material("720p of P-frames only", b_frames=0, count=6),
)


async def measure(directory: Path) -> list[Measurement]:
    """Through the service, a bare loop whose files lie on disk, and the flow replaced."""
    found = []
    for material in MATERIALS:
        found += await _measure(directory, material)
    return found


async def _measure(directory: Path, material: Material) -> list[Measurement]:
    made = [
        make_video(
            directory / f"{material.b_frames}-{n}.mp4",
            seconds=SECONDS,
            seed=n,
            b_frames=material.b_frames,
        )
        for n in range(3)
    ]
    files = [made[n % len(made)] for n in range(material.count)]
    cores = len(os.sched_getaffinity(0))
    ours, bare, replaced = list[float](), list[float](), list[float]()
    for number in range(ROUNDS):  # in turns, because the machine is not always equally fast
        keys = [f"bench/{material.b_frames}/{number}/{n}.x.mp4" for n in range(material.count)]
        ours.append(await _through_service(files, keys))
        bare.append(await run_split("loop", files, SAMPLE_FPS, cores))
        replaced.append(await run_split("replaced", keys, SAMPLE_FPS, 1))
    length = material.count * SECONDS
    return [
        _compare(f"{material.name}: a bare loop on {cores} cores", length, ours, bare, 0.85),
        _compare(f"{material.name}: the flow replaced", length, ours, replaced, 2),
    ]


def _compare(
    what: str, length: int, ours: Sequence[float], peer: Sequence[float], target: float
) -> Measurement:
    """Compare times, of which less is better, as speeds."""
    return Measurement(
        f"end to end, {what}",
        median(length / seconds for seconds in ours),
        median(length / seconds for seconds in peer),
        "video-s/s",
        target,
        "at least",
        tuple(round(theirs / mine, 3) for mine, theirs in zip(ours, peer, strict=True)),
    )


async def _through_service(files: list[Path], keys: list[str]) -> float:
    """Seconds from the first message to the last commit."""
    bucket, queue = os.environ["POLLER_RAW_BUCKET"], os.environ["POLLER_QUEUE_URL"]
    session = aioboto3.Session()
    # A queue of its own: the uploads announce themselves on the stack's.
    async with session.client("s3") as s3, session.client("sqs") as sqs:
        name = keys[0].replace("/", "-").replace(".", "-")
        made = await sqs.create_queue(QueueName=f"{queue.rpartition('/')[2]}-{name}")
        for path, key in zip(files, keys, strict=True):
            await s3.upload_file(str(path), bucket, key)
        # Twice the cores: while one video is fetched or stored, another is decoded.
        slots = str(2 * len(os.sched_getaffinity(0)))
        async with service(
            queue_url=made["QueueUrl"],
            max_concurrent_videos=slots,
            sample_fps=str(SAMPLE_FPS),
            device="cpu",
        ):
            started = time.monotonic()
            for key in keys:
                body = json.dumps({"bucket": bucket, "key": key})
                await sqs.send_message(QueueUrl=made["QueueUrl"], MessageBody=body)
            await _until_done(keys)
            return time.monotonic() - started


async def _until_done(keys: list[str]) -> None:
    connection = await asyncpg.connect(os.environ["POLLER_DATABASE_URL"])
    async with asyncio.timeout(900):
        while True:
            done = await connection.fetchval(
                "SELECT count(*) FROM latest_analyses"
                " WHERE state = 'done' AND object_key = ANY($1)",
                keys,
            )
            if done == len(keys):
                break
            await asyncio.sleep(0.05)
    await connection.close()
