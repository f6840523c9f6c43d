-- The object has a new revision: what is unfinished and unheld of the older ones never will be.
-- $1 video_id  $2 revision  $3 pipeline
UPDATE analyses
SET state = 'superseded', done_at = clock_timestamp(), error_code = 'superseded',
    error_message = 'the object was overwritten'
WHERE video_id = $1 AND revision <> $2 AND pipeline = $3
  AND (state = 'retry' OR (state = 'processing' AND lease_expires_at <= clock_timestamp()))
