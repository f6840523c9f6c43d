-- Take the lease of one analysis, or return no row.
-- $1 video_id  $2 revision  $3 pipeline  $4 lease_id  $5 owner  $6 message_id
-- $7 lease (interval)  $8 size_bytes  $9 object_modified_at
-- $10 revive a failed analysis (a message from the DLQ)
-- $11 lease_id of an earlier claim of ours whose attempt we could not give back, or null
-- Every grant raises the token, which fences off all earlier holders. The same lease_id again is
-- the same grant: its reply was lost on the way, and the repetition must not count an attempt.
-- A superseded revision that was uploaded again since is the object's once more.
-- now() is the time of the transaction's start and may lie before a rival's commit: only
-- clock_timestamp() is read.
INSERT INTO analyses AS a (
    video_id, revision, pipeline, state, lease_token, lease_id, lease_owner, lease_message_id,
    lease_expires_at, attempts, size_bytes, object_modified_at
)
VALUES ($1, $2, $3, 'processing', 1, $4, $5, $6, clock_timestamp() + $7, 1, $8, $9)
ON CONFLICT (video_id, revision, pipeline) DO UPDATE
SET state = 'processing',
    lease_token = a.lease_token + (a.lease_id IS DISTINCT FROM excluded.lease_id)::int,
    attempts = CASE
        WHEN a.state IN ('failed', 'superseded') THEN 1
        WHEN a.lease_id = excluded.lease_id THEN a.attempts
        WHEN a.state = 'processing' AND a.lease_id = $11 THEN a.attempts
        ELSE a.attempts + 1
    END,
    device_faults = CASE WHEN a.state = 'failed' THEN 0 ELSE a.device_faults END,
    progress = CASE WHEN a.lease_id = excluded.lease_id THEN a.progress ELSE 0 END,
    lease_id = excluded.lease_id,
    lease_owner = excluded.lease_owner,
    lease_message_id = excluded.lease_message_id,
    lease_expires_at = excluded.lease_expires_at,
    size_bytes = excluded.size_bytes,
    object_modified_at = greatest(a.object_modified_at, excluded.object_modified_at),
    not_before = NULL,
    error_code = NULL,
    error_message = NULL,
    done_at = NULL
WHERE (a.state = 'processing' AND a.lease_id = excluded.lease_id)
   OR (a.state = 'processing' AND a.lease_expires_at <= clock_timestamp())
   OR (a.state = 'retry' AND (a.not_before IS NULL OR a.not_before <= clock_timestamp()))
   OR (a.state = 'failed' AND $10 AND a.lease_message_id IS DISTINCT FROM excluded.lease_message_id)
   OR (a.state = 'superseded' AND a.object_modified_at < excluded.object_modified_at)
RETURNING a.id, a.video_id, a.lease_token, a.lease_id, a.attempts, a.device_faults
