-- How far the analyses of these revisions are; a video that has none yet comes without a state.
-- $1 buckets, $2 object keys, $3 revisions, element by element  $4 pipeline
SELECT v.id AS video_id, v.bucket, v.object_key, v.external_id, v.external_id_source,
       a.id AS analysis_id, a.state, a.progress, a.error_code, a.error_message
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (bucket, object_key, revision)
JOIN videos v USING (bucket, object_key)
LEFT JOIN analyses a
    ON a.video_id = v.id AND a.revision = wanted.revision AND a.pipeline = $4
