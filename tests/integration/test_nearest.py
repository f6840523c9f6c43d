"""Looking for similar shots, as the reference tells it and as the demo does it."""

import re
from pathlib import Path

import asyncpg
import pytest

from poller.postgres.reports import Reports

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
_ASKED = "84"


async def store_vectors(
    database: "asyncpg.Connection[asyncpg.Record]", external_id: str | None, revision: int, x: float
) -> int:
    """A done revision of a video with the shot (1, x, 0 …) and a frame (1, 0 …); its id."""
    video_id = await database.fetchval(
        "INSERT INTO videos (bucket, object_key, external_id, external_id_source)"
        " VALUES ('b', coalesce($1, 'none'), $1, CASE WHEN $1 IS NOT NULL THEN 'body' END)"
        " ON CONFLICT (bucket, object_key) DO UPDATE SET bucket = 'b' RETURNING id",
        external_id,
    )
    analysis_id: int = await database.fetchval(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, done_token, object_modified_at)"
        " VALUES ($1, $2::int::text, 'p', 'done', 1, gen_random_uuid(), 'o', now(), 1, 1,"
        " now() + $2::int * interval '1 s') RETURNING id",
        video_id,
        revision,
    )
    await database.execute(
        "INSERT INTO embeddings"
        " (analysis_id, lease_token, seq, kind, start_ms, end_ms, model, embedding)"
        " SELECT $1, 1, seq, kind, 0, 1000, 'dct-hog-v1',"
        " ARRAY[1, y]::real[] || array_fill(0::real, ARRAY[254])"
        " FROM (VALUES (0, 'shot', $2::real), (1, 'frame', 0)) AS made (seq, kind, y)",
        analysis_id,
        x,
    )
    return analysis_id


@pytest.fixture
async def analyses(database: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """The asked video, two others, one without an id, and one that was overwritten."""
    return {
        "asked, before": await store_vectors(database, _ASKED, 1, 0.0),
        "asked": await store_vectors(database, _ASKED, 2, 0.0),
        "overwritten": await store_vectors(database, "1", 1, 0.01),
        "rewritten": await store_vectors(database, "1", 2, 0.3),
        "near": await store_vectors(database, "2", 1, 0.1),
        "nameless": await store_vectors(database, None, 1, 0.2),
    }


def read_statements() -> list[str]:
    """The statements of the reference."""
    (block,) = re.findall(r"```sql\n(.*?)```", REFERENCE.read_text("utf-8"), re.DOTALL)
    return [part for part in block.split(";\n") if part]


async def test_the_reference_finds_shots_as_they_are_now(
    database: "asyncpg.Connection[asyncpg.Record]", analyses: dict[str, int]
) -> None:
    """Nearest first: no overwritten revision, no frame, and not the asked video itself."""
    setting, search = read_statements()
    assert analyses

    await database.execute(setting)
    found = await database.fetch(search)

    assert [row["object_key"] for row in found] == ["2", "none", "1"]
    assert {(row["kind"], row["start_ms"], row["end_ms"]) for row in found} == {("shot", 0, 1000)}


async def test_a_newer_revision_in_work_hides_nothing(
    database: "asyncpg.Connection[asyncpg.Record]", analyses: dict[str, int]
) -> None:
    """Until it is done, the revision before it is what is found, as in `timeline`."""
    await database.execute(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, object_modified_at)"
        " SELECT video_id, 'newer', 'p', 'processing', 1, gen_random_uuid(), 'o', now(), 1,"
        " now() + interval '1 h' FROM analyses WHERE id = $1",
        analyses["near"],
    )

    found = await database.fetch(read_statements()[1])

    assert [row["object_key"] for row in found] == ["2", "none", "1"]


async def test_the_demo_finds_shots_as_they_are_now(
    database: "asyncpg.Connection[asyncpg.Record]", analyses: dict[str, int]
) -> None:
    """The same, for any number of videos at once."""
    wanted = [analyses["asked"], analyses["near"]]

    found = await Reports(database).nearest_shots(wanted, limit=9)

    pairs = [(row["probe_analysis_id"], row["analysis_id"]) for row in found]
    names = {number: name for name, number in analyses.items()}
    assert [names[found] for asked, found in pairs if asked == wanted[0]] == [
        "near", "nameless", "rewritten"
    ]  # fmt: skip
    assert sorted(names[found] for asked, found in pairs if asked == wanted[1]) == [
        "asked", "nameless", "rewritten"
    ]  # fmt: skip


async def test_the_search_reads_the_index(
    database: "asyncpg.Connection[asyncpg.Record]", analyses: dict[str, int]
) -> None:
    """With many videos, in the order of the vector index, without a look at all of them."""
    await fill(database, videos=1000)
    setting, search = read_statements()
    assert analyses

    await database.execute(setting)
    plan = "\n".join(row[0] for row in await database.fetch(f"EXPLAIN {search}"))

    assert "Index Scan using embeddings_dct_hog_v1" in plan
    assert "Seq Scan" not in plan


async def fill(database: "asyncpg.Connection[asyncpg.Record]", videos: int) -> None:
    """Add videos with one done revision and a random shot each."""
    await database.execute(
        "INSERT INTO videos (bucket, object_key)"
        " SELECT 'b', 'k' || number FROM generate_series(1, $1::int) number",
        videos,
    )
    await database.execute(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, done_token, object_modified_at)"
        " SELECT id, 'r', 'p', 'done', 1, gen_random_uuid(), 'o', now(), 1, 1, now()"
        " FROM videos WHERE object_key LIKE 'k%'"
    )
    await database.execute(
        "INSERT INTO embeddings"
        " (analysis_id, lease_token, seq, kind, start_ms, end_ms, model, embedding)"
        " SELECT id, 1, 0, 'shot', 0, 1000, 'dct-hog-v1', (SELECT array_agg(random() - 0.5)"
        " FROM generate_series(1, 256 + 0 * id::int))::vector"
        " FROM analyses WHERE revision = 'r'"
    )
    await database.execute("ANALYZE")
