"""Rows as dead workers and lost messages leave them."""

from datetime import timedelta

from poller.postgres.pool import Connection

HOUR = timedelta(hours=1)


async def store_analysis(
    database: Connection,
    key: str = "k.mp4",
    state: str = "processing",
    *,
    bucket: str = "b",
    revision: str = "r",
    pipeline: str = "p",
    idle: timedelta = 3 * HOUR,
    not_before: timedelta | None = None,
    modified: timedelta = 9 * HOUR,
    external_id: str | None = None,
) -> int:
    """An analysis whose lease ran out `idle` ago, of bytes uploaded `modified` ago; its id.

    `not_before`, too, says how long ago.
    """
    video_id = await store_bound(database, key, bucket=bucket, external_id=external_id)
    analysis_id: int = await database.fetchval(
        "INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, not_before, attempts, done_token, object_modified_at)"
        " VALUES ($1, $2, $3, $4, 1, gen_random_uuid(), 'dead', now() - $5::interval,"
        " now() - $6::interval, 1, CASE WHEN $4 = 'done' THEN 1 END, now() - $7::interval)"
        " RETURNING id",
        video_id,
        revision,
        pipeline,
        state,
        idle,
        not_before,
        modified,
    )
    return analysis_id


async def store_bound(
    database: Connection,
    key: str = "k.mp4",
    *,
    bucket: str = "b",
    age: timedelta = 9 * HOUR,
    external_id: str | None = None,
) -> object:
    """A video's row, made `age` ago; its id."""
    return await database.fetchval(
        "INSERT INTO videos (bucket, object_key, created_at, external_id, external_id_source)"
        " VALUES ($1, $2, now() - $3::interval, $4::text,"
        " CASE WHEN $4::text IS NOT NULL THEN 'body' END)"
        " ON CONFLICT (bucket, object_key) DO UPDATE SET bucket = excluded.bucket RETURNING id",
        bucket,
        key,
        age,
        external_id,
    )
