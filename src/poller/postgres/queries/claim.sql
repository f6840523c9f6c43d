-- Take the lease of one analysis, or return no row.
-- $1 video_id  $2 revision  $3 pipeline  $4 lease_id  $5 owner  $6 message_id
-- $7 lease (interval)  $8 size_bytes  $9 revive a failed analysis (a message from the DLQ)
-- Every grant raises the token, which fences off all earlier holders. The same lease_id again is
-- the same grant: its reply was lost on the way, and the repetition must not count an attempt.
-- now() is the time of the transaction's start and may lie before a rival's commit: only
-- clock_timestamp() is read.
INSERT INTO analyses AS a (
    video_id, revision, pipeline, state, lease_token, lease_id, lease_owner, lease_message_id,
    lease_expires_at, attempts, size_bytes
)
VALUES ($1, $2, $3, 'processing', 1, $4, $5, $6, clock_timestamp() + $7, 1, $8)
ON CONFLICT (video_id, revision, pipeline) DO UPDATE
SET state = 'processing',
    lease_token = a.lease_token + (a.lease_id IS DISTINCT FROM excluded.lease_id)::int,
    attempts = CASE
        WHEN a.state = 'failed' THEN 1
        WHEN a.lease_id IS NOT DISTINCT FROM excluded.lease_id THEN a.attempts
        ELSE a.attempts + 1
    END,
    lease_id = excluded.lease_id,
    lease_owner = excluded.lease_owner,
    lease_message_id = excluded.lease_message_id,
    lease_expires_at = excluded.lease_expires_at,
    size_bytes = excluded.size_bytes,
    resolved_at = clock_timestamp(),
    not_before = NULL,
    error_code = NULL,
    error_message = NULL,
    done_at = NULL
WHERE (a.state = 'processing' AND a.lease_id = excluded.lease_id)
   OR (a.state = 'processing' AND a.lease_expires_at <= clock_timestamp())
   OR (a.state = 'retry' AND (a.not_before IS NULL OR a.not_before <= clock_timestamp()))
   OR (a.state = 'failed' AND $9 AND a.lease_message_id IS DISTINCT FROM excluded.lease_message_id)
RETURNING a.id, a.lease_token, a.lease_id, a.attempts
