-- The described frame of a video that is nearest to a time, as of its newest done revision.
-- $1 video id  $2 milliseconds  $3 model
SELECT e.start_ms, e.embedding::text AS vector
FROM embeddings e
JOIN done_analyses d ON d.analysis_id = e.analysis_id AND d.done_token = e.lease_token
WHERE d.video_id = $1 AND e.model = $3 AND e.kind = 'frame'
ORDER BY abs(e.start_ms - $2::bigint)
LIMIT 1
