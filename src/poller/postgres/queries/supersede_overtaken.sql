-- End an analysis that nobody holds and nobody needs.
-- $1 analysis_id
UPDATE analyses
SET state = 'superseded', done_at = clock_timestamp(), error_code = 'superseded',
    error_message = 'a newer analysis of the video took its place'
WHERE id = $1
  AND (state = 'retry' OR (state = 'processing' AND lease_expires_at <= clock_timestamp()))
RETURNING id
