-- The object is gone or closed to us: what is unfinished and unheld of its analyses never will be.
-- $1 bucket  $2 object_key  $3 pipeline  $4 error_code  $5 error_message  $6 message_id
UPDATE analyses a
SET state = 'failed', done_at = clock_timestamp(), error_code = $4, error_message = $5,
    lease_message_id = $6
FROM videos v
WHERE v.id = a.video_id AND v.bucket = $1 AND v.object_key = $2 AND a.pipeline = $3
  AND (a.state = 'retry' OR (a.state = 'processing' AND a.lease_expires_at <= clock_timestamp()))
