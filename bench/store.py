"""Storing results, against a bare COPY of the same rows into tables with the same indexes."""

import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np

from bench.measure import Measurement
from inference.analyze import Analysis, Cost
from inference.events import PIPELINE, Embedding, Event, Results
from inference.frames import VideoInfo
from poller.postgres import pool, results
from poller.postgres.claims import Claimed, Claims, Content, Delivery
from poller.rules.message import VideoRequest

EVENTS, EMBEDDINGS, ROUNDS = 10_000, 2_000, 5


async def measure() -> list[Measurement]:
    """Rows per second, the median of five rounds each, taken in turns."""

    async def url(_: bool) -> str:
        return os.environ["POLLER_DATABASE_URL"]

    async with pool.opened(url, max_size=2) as connections:
        await _make_bare_tables(connections)
        analysis = _make_analysis()
        ours, bare = [], []
        for number in range(ROUNDS):
            claim = await claim_new(connections, f"store-{number}")
            started = time.perf_counter()
            await results.Results(connections).store(claim, analysis)
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            await _copy_bare(connections, claim, analysis)
            bare.append(time.perf_counter() - started)
    rows = EVENTS + EMBEDDINGS
    return [
        Measurement(
            "store, against a bare COPY of the same rows",
            rows / statistics.median(ours),
            rows / statistics.median(bare),
            "rows/s",
            0.8,
            "at least",
        )
    ]


async def _make_bare_tables(connections: pool.Pool) -> None:
    async with pool.acquired(connections) as connection:
        for table in ("events", "embeddings"):
            await connection.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)")


async def _copy_bare(connections: pool.Pool, claim: Claimed, analysis: Analysis) -> None:
    found = analysis.results
    async with pool.acquired(connections) as connection:
        await connection.copy_records_to_table(
            "bare_events",
            columns=results.EVENT_COLUMNS,
            records=results.event_rows(claim, found.events),
        )
        await connection.copy_records_to_table(
            "bare_embeddings",
            columns=results.EMBEDDING_COLUMNS,
            records=results.embedding_rows(claim, found.embeddings),
        )


async def claim_new(connections: pool.Pool, key: str) -> Claimed:
    """Claim a video that nobody has claimed before."""
    claims = Claims(connections, owner="bench", lease=timedelta(minutes=10), pipeline=PIPELINE)
    video = await claims.bind(VideoRequest("bench", key, None))
    found = await claims.claim(
        video, Content("r", 1, datetime.now(UTC)), Delivery("m", uuid4(), is_redriven=False)
    )
    assert isinstance(found, Claimed)  # noqa: S101 - the key is new
    return found


def _make_analysis() -> Analysis:
    random = np.random.default_rng(7)
    vectors = random.normal(size=(EMBEDDINGS, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Analysis(
        info=VideoInfo("mp4", "h264", 1280, 720, 25.0, 3600.0, 90_000),
        results=Results(
            tuple(Event("motion", n * 100, n * 100 + 99, 0.5) for n in range(EVENTS)),
            tuple(
                Embedding("frame", n * 1000, n * 1000 + 999, "dct-hog-v1", vector)
                for n, vector in enumerate(vectors)
            ),
        ),
        frames_decoded=90_000,
        frames_analyzed=18_000,
        decode_seconds=0.0,
        infer_seconds=0.0,
        cost=Cost(0.0, 0.0),
    )
