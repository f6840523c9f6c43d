"""What an analysis cost."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    # Without a default, that rewrites no row; of what is done already, nobody knows.
    """
    ALTER TABLE analyses
        ADD COLUMN cpu_seconds double precision,
        ADD COLUMN device_seconds double precision,
        ADD COLUMN frames_skipped bigint,
        ADD COLUMN cost_from_ms bigint
    """,
    # A view takes further columns at its end only.
    """
    CREATE OR REPLACE VIEW latest_analyses AS
    SELECT v.id AS video_id, v.bucket, v.object_key, v.external_id, v.external_id_source,
           a.id AS analysis_id, a.revision, a.pipeline, a.state, a.progress, a.attempts,
           a.lease_owner, a.lease_expires_at, a.not_before, a.error_code, a.error_message,
           a.size_bytes, a.duration_seconds, a.width, a.height, a.fps, a.codec,
           a.frames_decoded, a.frames_analyzed, a.events_count, a.embeddings_count,
           a.created_at, a.done_at,
           a.frames_skipped, a.cpu_seconds, a.device_seconds, a.cost_from_ms
    FROM videos v
    LEFT JOIN LATERAL (
        SELECT *
        FROM analyses
        WHERE video_id = v.id
        ORDER BY object_modified_at DESC, id DESC
        LIMIT 1
    ) a ON true
    """,
)


def upgrade() -> None:
    """Add the columns, and show them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse, as all of them do."""
    raise NotImplementedError("restore a backup instead")
