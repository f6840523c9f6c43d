"""From the queue to the commit, against a bare loop and against the flow that it replaces."""

import asyncio
import json
import os
import time
from pathlib import Path

import aioboto3
import asyncpg

from bench.material import make_video
from bench.measure import Measurement
from bench.peers import run_split
from bench.stack import service

VIDEOS = 12
SECONDS = 30
SAMPLE_FPS = 5.0
ROUNDS = 2


async def measure(directory: Path) -> list[Measurement]:
    """Twelve videos of 720p through each; the bare loop's files lie on disk already."""
    made = [make_video(directory / f"{n}.mp4", seconds=SECONDS, seed=n) for n in range(3)]
    files = [made[n % len(made)] for n in range(VIDEOS)]
    cores = len(os.sched_getaffinity(0))
    video_seconds = VIDEOS * SECONDS
    spent = {"ours": 0.0, "bare": 0.0, "replaced": 0.0}
    for number in range(ROUNDS):  # in turns, because the machine is not always equally fast
        spent["ours"] += await _through_service(files, number)
        spent["bare"] += await run_split("loop", files, SAMPLE_FPS, cores)
        spent["replaced"] += await run_split("replaced", _keys(number), SAMPLE_FPS, 1)
    ours, bare, replaced = (ROUNDS * video_seconds / seconds for seconds in spent.values())
    unit = "video-s/s"
    return [
        Measurement(
            f"end to end, against a bare loop on {cores} cores", ours, bare, unit, 0.85, "at least"
        ),
        Measurement("end to end, against the flow replaced", ours, replaced, unit, 2, "at least"),
    ]


def _keys(turn: int) -> list[str]:
    return [f"bench/{turn}/{number}.x.mp4" for number in range(VIDEOS)]


async def _through_service(files: list[Path], turn: int) -> float:
    """Seconds from the first message to the last commit."""
    bucket, queue = os.environ["POLLER_RAW_BUCKET"], os.environ["POLLER_QUEUE_URL"]
    session = aioboto3.Session()
    # A queue of its own: the uploads announce themselves on the stack's.
    async with session.client("s3") as s3, session.client("sqs") as sqs:
        made = await sqs.create_queue(QueueName=queue.rpartition("/")[2] + f"-bench-{turn}")
        for path, key in zip(files, _keys(turn), strict=True):
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
            for key in _keys(turn):
                body = json.dumps({"bucket": bucket, "key": key})
                await sqs.send_message(QueueUrl=made["QueueUrl"], MessageBody=body)
            await _until_done((turn + 1) * len(files))
            return time.monotonic() - started


async def _until_done(count: int) -> None:
    connection = await asyncpg.connect(os.environ["POLLER_DATABASE_URL"])
    async with asyncio.timeout(900):
        while True:
            done = await connection.fetchval("SELECT count(*) FROM analyses WHERE state = 'done'")
            if done >= count:
                break
            await asyncio.sleep(0.05)
    await connection.close()
