-- How far the newest analyses of these revisions are; a video without one comes without a state.
-- $1 buckets, $2 object keys, $3 revisions, element by element  $4 since when
-- The service that works on them may have another pipeline than whoever asks, which nobody knows
-- here, so that any counts. What was finished before comes only where there is nothing else, and is
-- called earlier: a new analysis may be still to come, or that very pipeline runs, and none will.
SELECT v.id AS video_id, v.bucket, v.object_key, v.external_id, v.external_id_source,
       a.id AS analysis_id, a.pipeline, a.state, a.progress, a.error_code, a.error_message,
       NOT a.is_current AS is_earlier
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (bucket, object_key, revision)
JOIN videos v USING (bucket, object_key)
LEFT JOIN LATERAL (
    SELECT *, done_at IS NULL OR done_at >= $4 AS is_current
    FROM analyses
    WHERE video_id = v.id AND revision = wanted.revision
    ORDER BY is_current DESC, id DESC
    LIMIT 1
) a ON true
