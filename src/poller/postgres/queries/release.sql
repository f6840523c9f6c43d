-- Give the lease up under the fence, in one of four ways.
-- $1 analysis_id  $2 lease_token  $3 state (retry, failed, superseded)  $4 wait (interval or null)
-- $5 attempts to give back  $6 error_code  $7 error_message  $8 device faults to add
UPDATE analyses
SET state = $3,
    not_before = clock_timestamp() + $4,
    lease_expires_at = clock_timestamp(),
    attempts = attempts - $5,
    device_faults = device_faults + $8,
    error_code = $6,
    error_message = $7,
    done_at = CASE WHEN $3 = 'retry' THEN NULL ELSE clock_timestamp() END
WHERE id = $1 AND lease_token = $2 AND state = 'processing'
RETURNING id
