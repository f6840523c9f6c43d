-- The stored vectors nearest to one, of what is shown now, nearest first.
-- $1 vector as text  $2 kind  $3 video to leave out, or null  $4 the only videos, or null
-- $5 event type that it must overlap, or null  $6, $7 uploaded from and before, or null  $8 how many
-- The model is in the text: as a parameter it would keep the planner from the partial index.
WITH near AS MATERIALIZED (
    SELECT v.id AS video_id, v.bucket, v.object_key, v.external_id, a.object_modified_at AS uploaded_at,
           e.kind, e.start_ms, e.end_ms, e.track_id,
           1 - (e.embedding::halfvec(256) <=> $1::text::halfvec(256)) AS score
    FROM embeddings e
    JOIN analyses a ON a.id = e.analysis_id
    JOIN videos v ON v.id = a.video_id
    WHERE e.model = 'dct-hog-v1' AND e.kind = $2
      AND a.video_id IS DISTINCT FROM $3::uuid
      AND ($4::uuid[] IS NULL OR a.video_id = ANY ($4::uuid[]))
      AND ($5::text IS NULL OR EXISTS (
          SELECT FROM events o
          WHERE o.analysis_id = a.id AND o.lease_token = a.done_token AND o.event_type = $5
            AND o.start_ms <= e.end_ms AND o.end_ms >= e.start_ms
      ))
      AND ($6::timestamptz IS NULL OR a.object_modified_at >= $6)
      AND ($7::timestamptz IS NULL OR a.object_modified_at < $7)
      AND (SELECT d.analysis_id = a.id FROM done_analyses d WHERE d.video_id = a.video_id)
    ORDER BY e.embedding::halfvec(256) <=> $1::text::halfvec(256)
    LIMIT $8
)
-- A relaxed scan finds more and may be late with some.
SELECT * FROM near ORDER BY score DESC
