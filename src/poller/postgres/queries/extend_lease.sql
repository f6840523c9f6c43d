-- A heartbeat. An expired lease that nobody took is still ours: the token says so, not the clock.
-- `done` under our own token is not a lost lease: this beat waited for our own COMMIT.
-- $1 analysis_id  $2 lease_token  $3 lease (interval)  $4 progress 0..1
UPDATE analyses
SET lease_expires_at = clock_timestamp() + $3, progress = greatest(progress, $4)
WHERE id = $1 AND lease_token = $2 AND state IN ('processing', 'done')
RETURNING id
