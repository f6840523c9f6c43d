"""The claim protocol under load: its latency, and its races."""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

from bench.measure import Measurement
from inference.events import PIPELINE
from poller.errors import LeaseLostError
from poller.postgres import pool
from poller.postgres.claims import Claimed, Claims, Content, Delivery, Held
from poller.rules.message import VideoRequest

WORKERS, CLAIMS_EACH, CLAIMS_PER_SECOND = 20, 60, 40
"""All twenty together: more often than their devices finish videos, and not so often that their
one process here is what they wait for."""
RACES, RACERS = 10_000, 8
_LEASE = timedelta(minutes=10)
_P99_MS = 20.0


async def measure() -> list[Measurement]:
    """Workers with connections of their own, as separate processes would have."""
    async with _workers() as (workers, ending):
        await asyncio.gather(*(claims.ping() for claims in workers))  # they are connected
        latencies = await asyncio.gather(
            *(_claim_often(claims, number) for number, claims in enumerate(workers))
        )
        p99 = statistics.quantiles([ms for own in latencies for ms in own], n=100)[-1]
        decided = await _race(workers[:RACERS], ending)
    return [
        Measurement(
            f"claim, 99 % of {WORKERS * CLAIMS_EACH} by {WORKERS} workers, against 20 ms",
            *(p99, _P99_MS, "ms", 1, "at most"),
        ),
        Measurement(
            f"races of {RACERS} for a new or an expired lease that one of them won",
            *(decided, RACES, "races", 1, "at least"),
        ),
    ]


@asynccontextmanager
async def _workers() -> AsyncIterator[tuple[list[Claims], Claims]]:
    async def url(_: bool) -> str:
        return os.environ["POLLER_DATABASE_URL"]

    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(pool.opened(url, max_size=1)) for _ in range(WORKERS)
        ]
        workers = [Claims(own, owner="bench", lease=_LEASE, pipeline=PIPELINE) for own in pools]
        yield workers, Claims(pools[-1], owner="bench", lease=timedelta(0), pipeline=PIPELINE)


async def _claim_often(claims: Claims, number: int) -> list[float]:
    """Milliseconds of each claim, as a worker waits for it, its video's row included."""
    random = Random(number)
    found = []
    for turn in range(CLAIMS_EACH):
        await asyncio.sleep(random.expovariate(CLAIMS_PER_SECOND / WORKERS))
        started = time.perf_counter()
        video = await claims.bind(VideoRequest("bench", f"claims/{number}/{turn}", None))
        granted = await _claim(claims, video)
        found.append(1000 * (time.perf_counter() - started))
        if not isinstance(granted, Claimed):
            raise TypeError("nobody else wants this one")
    return found


async def _race(rivals: Sequence[Claims], ending: Claims) -> int:
    """How many races one of the rivals won, and the others were told to wait.

    Each video is raced for twice: `ending` ends the first winner's lease by a beat that holds for
    no time.
    """
    decided = 0
    for number in range(RACES // 2):
        video = await rivals[0].bind(VideoRequest("bench", f"races/{number}", None))
        for token in (1, 2):
            found = await asyncio.gather(*(_claim(claims, video) for claims in rivals))
            won = [one for one in found if isinstance(one, Claimed)]
            lost = [one for one in found if isinstance(one, Held)]
            decided += [one.token for one in won] == [token] and len(lost) == len(rivals) - 1
            for one in won:
                with suppress(LeaseLostError):  # of several winners only the last holds it
                    await ending.extend(one, 0.0)
    return decided


async def _claim(claims: Claims, video: UUID) -> object:
    content = Content("r", 1, datetime(2026, 1, 1, tzinfo=UTC))
    return await claims.claim(video, content, Delivery("m", uuid4(), is_redriven=False))
