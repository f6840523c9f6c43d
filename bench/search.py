"""`poller search` on many vectors: how many of the ten nearest are found, filtered and not."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import numpy.typing as npt

from bench.measure import Measurement
from poller.cli.search import LOOKED_AT
from poller.postgres import pool
from poller.postgres.pool import Connection
from poller.postgres.reports import Among, Reports

VIDEOS, FRAMES, SIZE = 200, 1000, 256
QUERIES, WANTED = 50, 10
_EARLY, _LATE = datetime(2025, 12, 1, tzinfo=UTC), datetime(2025, 12, 2, tzinfo=UTC)
"""When the videos were uploaded, in turn."""


async def measure() -> list[Measurement]:
    """200,000 frames in one index; filters that let few of the videos pass, and many."""

    async def url(_: bool) -> str:
        return os.environ["POLLER_DATABASE_URL"]

    random = np.random.default_rng(1)
    async with (
        pool.opened(url, max_size=1) as connections,
        pool.acquired(connections) as connection,
    ):
        videos, frames = await _fill(connection, random)
        cases = {
            "for a tenth of the videos": (Among("frame", only=videos[::10]), videos[::10]),
            "for half of the videos": (Among("frame", only=videos[::2]), videos[::2]),
            "for the half that came last": (Among("frame", since=_LATE), videos[1::2]),
            "": (Among("frame"), videos),
        }
        found = {
            name: await _search(connection, random, frames, *case) for name, case in cases.items()
        }
    return [each for name, one in found.items() for each in _compare(name, one)]


def _compare(name: str, found: "_Found") -> list[Measurement]:
    """What was found, and how long that took; without a filter that is there to be known."""
    what = f"top {WANTED} of {VIDEOS * FRAMES:,} x {SIZE}"
    what += f" with a filter {name}" if name else " without a filter"
    return [
        Measurement(
            f"{what}, found of those that are nearest",
            *(found.found, found.nearest, "rows", 0.95 if name else None),
        ),
        Measurement(
            f"{what}, time against looking at all",
            *(
                found.seconds / QUERIES,
                found.exact_seconds / QUERIES,
                "s",
                1 if name else None,
                "at most",
            ),
        ),
    ]


@dataclass(slots=True)
class _Found:
    """What some queries found."""

    found: int = 0
    nearest: int = 0
    seconds: float = 0.0
    exact_seconds: float = 0.0


async def _search(
    connection: Connection,
    random: np.random.Generator,
    frames: npt.NDArray[np.float64],
    among: Among,
    only: list[UUID],
) -> _Found:
    """Look for frames that are a little changed, with the index and without."""
    sum_of = _Found()
    for query in frames[random.integers(len(frames), size=QUERIES)]:
        vector = str(_unit(query + random.normal(0, 0.02, SIZE)).tolist())
        started = time.perf_counter()
        rows = await Reports(connection).nearest_moments(vector, among, WANTED * LOOKED_AT)
        sum_of.seconds += time.perf_counter() - started
        started = time.perf_counter()
        nearest = await _exactly(connection, vector, only)
        sum_of.exact_seconds += time.perf_counter() - started
        seen = {(row["video_id"], row["start_ms"]) for row in rows[:WANTED]}
        sum_of.found += len(seen & nearest)
        sum_of.nearest += len(nearest)
    return sum_of


async def _drop_index(connection: Connection) -> str:
    """Drop the index of the frames' vectors; return the statement that makes it."""
    (definition,) = await connection.fetchrow(
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'embeddings_dct_hog_v1'"
    ) or ("",)
    await connection.execute("DROP INDEX embeddings_dct_hog_v1")
    return str(definition)


async def _fill(
    connection: Connection, random: np.random.Generator
) -> tuple[list[UUID], npt.NDArray[np.float64]]:
    """Videos of some scenes each, whose frames drift a little; the index is built behind them."""
    rows = await connection.fetch(
        "INSERT INTO videos (bucket, object_key)"
        " SELECT 'bench', 'search/' || n FROM generate_series(1, $1::int) n RETURNING id",
        VIDEOS,
    )
    videos = [row["id"] for row in rows]
    rows = await connection.fetch(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, done_token, object_modified_at)"
        " SELECT id, 'r', 'bench', 'done', 1, gen_random_uuid(), 'bench', now(), 1, 1, uploaded"
        " FROM unnest($1::uuid[], $2::timestamptz[]) each (id, uploaded) RETURNING id",
        videos,
        [_LATE if at % 2 else _EARLY for at in range(VIDEOS)],
    )
    frames = np.concatenate(list(_drifting(random)))
    await connection.execute("SET statement_timeout = 0")
    definition = await _drop_index(connection)
    await connection.copy_records_to_table(
        "embeddings",
        columns=("analysis_id", "lease_token", "seq", "kind", "start_ms", "end_ms", "model",
                 "embedding"),
        records=(
            (rows[at // FRAMES]["id"], 1, at % FRAMES, "frame", at % FRAMES * 1000,
             at % FRAMES * 1000 + 1000, "dct-hog-v1", frame)
            for at, frame in enumerate(frames)
        ),
    )  # fmt: skip
    await connection.execute("SET maintenance_work_mem = '1GB'")
    await connection.execute(definition, timeout=900)
    await connection.execute("ANALYZE embeddings, analyses, videos")
    return videos, frames


def _drifting(random: np.random.Generator) -> Iterator[npt.NDArray[np.float64]]:
    scenes = random.normal(size=(60, SIZE)) + 2 * random.normal(size=SIZE)
    for _ in range(VIDEOS):
        scene = scenes[random.integers(len(scenes), size=FRAMES // 100)].repeat(100, axis=0)
        drift = np.cumsum(random.normal(0, 0.02, (FRAMES, SIZE)), axis=0)
        yield _unit(scene + drift + random.normal(0, 0.1, (FRAMES, SIZE)))


async def _exactly(connection: Connection, vector: str, only: list[UUID]) -> set[tuple[UUID, int]]:
    rows = await connection.fetch(
        "SELECT a.video_id, e.start_ms FROM analyses a JOIN embeddings e ON e.analysis_id = a.id"
        " WHERE a.video_id = ANY ($2) AND e.model || '' = 'dct-hog-v1'"
        " ORDER BY e.embedding::halfvec(256) <=> $1::text::halfvec(256) LIMIT $3",
        vector,
        only,
        WANTED,
    )
    return {(row["video_id"], row["start_ms"]) for row in rows}


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
