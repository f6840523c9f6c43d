-- Who is seen in a video at a time, of those who have a vector, as of its newest done revision.
-- $1 video id  $2 milliseconds  $3 model
SELECT e.track_id, e.start_ms, e.end_ms, e.embedding::text AS vector
FROM embeddings e
JOIN done_analyses d ON d.analysis_id = e.analysis_id AND d.done_token = e.lease_token
WHERE d.video_id = $1 AND e.model = $3 AND e.kind = 'track'
  AND e.start_ms <= $2::bigint AND e.end_ms > $2::bigint
ORDER BY e.track_id
