"""Videos, analyses, their events, embeddings and checkpoints, and the two views."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE videos (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        bucket text NOT NULL,
        object_key text NOT NULL,
        external_id text,
        external_id_source text
            CHECK (external_id_source IN ('filename', 'key', 'attribute', 'body')),
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        UNIQUE (bucket, object_key),
        CHECK ((external_id IS NULL) = (external_id_source IS NULL))
    )
    """,
    "CREATE INDEX videos_external_id ON videos (external_id) WHERE external_id IS NOT NULL",
    """
    CREATE TABLE analyses (
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        video_id uuid NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
        revision text NOT NULL,
        pipeline text NOT NULL,
        state text NOT NULL
            CHECK (state IN ('processing', 'retry', 'done', 'failed', 'superseded')),
        lease_token int NOT NULL,
        lease_id uuid NOT NULL,
        lease_owner text NOT NULL,
        lease_message_id text,
        lease_expires_at timestamptz NOT NULL,
        attempts int NOT NULL CHECK (attempts >= 0),
        not_before timestamptz,
        progress real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
        error_code text,
        error_message text,
        size_bytes bigint,
        duration_seconds double precision,
        width int,
        height int,
        fps double precision,
        codec text,
        frames_decoded bigint,
        frames_analyzed bigint,
        events_count int,
        embeddings_count int,
        done_token int,
        -- When S3 says that the object got these bytes: the order of an object's revisions.
        object_modified_at timestamptz NOT NULL,
        device_faults int NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        done_at timestamptz,
        UNIQUE (video_id, revision, pipeline),
        UNIQUE (id, done_token),
        CHECK ((state = 'done') = (done_token IS NOT NULL))
    )
    """,
    "CREATE INDEX analyses_state ON analyses (state, lease_expires_at) WHERE state <> 'done'",
    """
    CREATE TABLE events (
        analysis_id bigint NOT NULL,
        lease_token int NOT NULL,
        seq int NOT NULL,
        event_type text NOT NULL,
        start_ms bigint NOT NULL,
        end_ms bigint NOT NULL,
        score real,
        track_id int,
        bbox_x real CHECK (bbox_x BETWEEN 0 AND 1),
        bbox_y real CHECK (bbox_y BETWEEN 0 AND 1),
        bbox_w real CHECK (bbox_w BETWEEN 0 AND 1),
        bbox_h real CHECK (bbox_h BETWEEN 0 AND 1),
        age real,
        age_group text,
        gender text,
        gender_score real CHECK (gender_score BETWEEN 0 AND 1),
        attributes jsonb NOT NULL DEFAULT '{}',
        thumbnail_key text,
        PRIMARY KEY (analysis_id, lease_token, seq),
        CHECK (end_ms >= start_ms),
        -- Rows may be written under any token, and committed only under the one that is done.
        FOREIGN KEY (analysis_id, lease_token) REFERENCES analyses (id, done_token)
            ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
    )
    """,
    "CREATE INDEX events_type ON events (event_type, analysis_id)",
    """
    CREATE TABLE embeddings (
        analysis_id bigint NOT NULL,
        lease_token int NOT NULL,
        seq int NOT NULL,
        kind text NOT NULL CHECK (kind IN ('frame', 'shot', 'track')),
        start_ms bigint NOT NULL,
        end_ms bigint NOT NULL,
        track_id int,
        model text NOT NULL,
        -- A zero vector has no direction: a cosine index would leave it out without a word.
        embedding halfvec NOT NULL CHECK (l2_norm(embedding) > 0),
        PRIMARY KEY (analysis_id, lease_token, seq),
        CHECK (end_ms >= start_ms),
        FOREIGN KEY (analysis_id, lease_token) REFERENCES analyses (id, done_token)
            ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
    )
    """,
    # Partial, so that a query which names the model in its text finds this index.
    """
    CREATE INDEX embeddings_dct_hog_v1 ON embeddings
        USING hnsw ((embedding::halfvec(256)) halfvec_cosine_ops) WHERE model = 'dct-hog-v1'
    """,
    """
    CREATE TABLE checkpoints (
        analysis_id bigint NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
        lease_token int NOT NULL,
        part int NOT NULL,
        position_ms bigint NOT NULL,
        state bytea NOT NULL,
        carry bytea,
        PRIMARY KEY (analysis_id, part)
    )
    """,
    # Whichever statement ends an analysis: nobody goes on from there.
    """
    CREATE FUNCTION drop_checkpoints() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM checkpoints WHERE analysis_id = new.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER drop_checkpoints AFTER UPDATE ON analyses
    FOR EACH ROW WHEN (old.state <> new.state AND new.state IN ('done', 'failed', 'superseded'))
    EXECUTE FUNCTION drop_checkpoints()
    """,
    """
    CREATE VIEW done_analyses AS
    SELECT v.id AS video_id, v.bucket, v.object_key, v.external_id, v.external_id_source,
           a.id AS analysis_id, a.revision, a.pipeline, a.done_at, a.done_token
    FROM videos v
    CROSS JOIN LATERAL (
        SELECT id, revision, pipeline, done_at, done_token
        FROM analyses
        WHERE video_id = v.id AND state = 'done'
        ORDER BY object_modified_at DESC, id DESC
        LIMIT 1
    ) a
    """,
    """
    CREATE VIEW timeline AS
    SELECT a.video_id, a.bucket, a.object_key, a.external_id, a.external_id_source,
           a.analysis_id, a.revision, a.pipeline, a.done_at,
           e.seq, e.event_type, e.start_ms, e.end_ms, e.score, e.track_id,
           e.bbox_x, e.bbox_y, e.bbox_w, e.bbox_h, e.age, e.age_group, e.gender, e.gender_score,
           e.attributes, e.thumbnail_key
    FROM done_analyses a
    JOIN events e ON e.analysis_id = a.analysis_id AND e.lease_token = a.done_token
    """,
    """
    CREATE VIEW latest_analyses AS
    SELECT v.id AS video_id, v.bucket, v.object_key, v.external_id, v.external_id_source,
           a.id AS analysis_id, a.revision, a.pipeline, a.state, a.progress, a.attempts,
           a.lease_owner, a.lease_expires_at, a.not_before, a.error_code, a.error_message,
           a.size_bytes, a.duration_seconds, a.width, a.height, a.fps, a.codec,
           a.frames_decoded, a.frames_analyzed, a.events_count, a.embeddings_count,
           a.created_at, a.done_at
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
    """Create everything."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: results are not thrown away by a command."""
    raise NotImplementedError("restore a backup instead")
