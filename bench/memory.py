"""Peak memory of all processes together, for a long video against a short one."""

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import aioboto3
import psutil

from bench.material import make_video, repeat_video
from bench.measure import Measurement
from bench.stack import service

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_SHORT_MINUTES, _TIMES = 2, 10


async def measure(directory: Path) -> list[Measurement]:
    """Each video alone in a fresh service; shared memory is counted once (PSS)."""
    piece = make_video(directory / "piece.mp4", seconds=20)
    short = repeat_video(directory / "short.mp4", piece, 3 * _SHORT_MINUTES)
    long = repeat_video(directory / "long.mp4", short, _TIMES)
    peer = await _peak(short, "memory/short.x.mp4")
    ours = await _peak(long, "memory/long.x.mp4")
    return [
        Measurement(
            f"peak memory, {_SHORT_MINUTES * _TIMES} minutes against {_SHORT_MINUTES}",
            ours / 2**20,
            peer / 2**20,
            "MiB",
            1.1,
            "at most",
        )
    ]


async def _peak(path: Path, key: str) -> int:
    bucket, queue = os.environ["POLLER_RAW_BUCKET"], os.environ["POLLER_QUEUE_URL"]
    session = aioboto3.Session()
    async with session.client("s3") as s3, session.client("sqs") as sqs:
        made = await sqs.create_queue(QueueName=queue.rpartition("/")[2] + f"-{path.stem}")
        await s3.upload_file(str(path), bucket, key)
        body = json.dumps({"bucket": bucket, "key": key})
        await sqs.send_message(QueueUrl=made["QueueUrl"], MessageBody=body)
        async with service(queue_url=made["QueueUrl"], device="cpu") as pid:
            peak = 0
            async with asyncio.timeout(900):
                while not await _is_empty(sqs, made["QueueUrl"]):
                    for _ in range(20):
                        peak = max(peak, _resident(pid))
                        await asyncio.sleep(0.02)
            return peak


async def _is_empty(sqs: "SQSClient", url: str) -> bool:
    response = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    counts = response["Attributes"]
    return (
        counts["ApproximateNumberOfMessages"] == "0"
        and counts["ApproximateNumberOfMessagesNotVisible"] == "0"
    )


def _resident(pid: int) -> int:
    """Proportional set size of a process and its children, in bytes."""
    total = 0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended between the two calls
            total += process.memory_full_info().pss
    return total
