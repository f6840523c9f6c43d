-- The fence: the last statement before COMMIT. Setting done_token is what lets the rows just
-- copied satisfy their deferred foreign key; with a lost lease no row is updated, and even a
-- forgotten check could not commit them.
-- $1 analysis_id  $2 lease_token  $3 lease_id  $4 duration_seconds  $5 width  $6 height  $7 fps
-- $8 codec  $9 frames_decoded  $10 frames_analyzed  $11 events_count  $12 embeddings_count
-- $13 cpu_seconds  $14 device_seconds  $15 cost_from_ms (null: of the whole video)
UPDATE analyses
SET state = 'done', done_token = lease_token, done_at = clock_timestamp(), progress = 1,
    duration_seconds = $4, width = $5, height = $6, fps = $7, codec = $8,
    frames_decoded = $9, frames_analyzed = $10, events_count = $11, embeddings_count = $12,
    frames_skipped = greatest($9::bigint - $10::bigint, 0), cpu_seconds = $13, device_seconds = $14,
    cost_from_ms = $15
WHERE id = $1 AND lease_token = $2 AND lease_id = $3 AND state = 'processing'
RETURNING id
