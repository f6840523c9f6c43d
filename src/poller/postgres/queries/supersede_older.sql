-- The object has a new revision: what is unfinished and unheld of the older ones never will be.
-- By the time of the upload, not of the claim: a worker that was slow to claim an old revision
-- must not end the current one.
-- $1 video_id  $2 revision  $3 pipeline  $4 object_modified_at
UPDATE analyses
SET state = 'superseded', done_at = clock_timestamp(), error_code = 'superseded',
    error_message = 'the object was overwritten'
WHERE video_id = $1 AND revision <> $2 AND pipeline = $3 AND object_modified_at < $4
  AND (state = 'retry' OR (state = 'processing' AND lease_expires_at <= clock_timestamp()))
