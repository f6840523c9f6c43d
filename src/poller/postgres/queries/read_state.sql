-- Why the claim gave no row. A statement of its own: in one statement with the claim it would
-- see the snapshot from before a rival's commit, and find nothing.
-- $1 video_id  $2 revision  $3 pipeline
-- resolved_at records that the object has this revision now, so that the timeline of an object
-- which was overwritten and then restored shows what is there.
UPDATE analyses
SET resolved_at = clock_timestamp()
WHERE video_id = $1 AND revision = $2 AND pipeline = $3
RETURNING state, lease_message_id, attempts, error_code, error_message,
          greatest(lease_expires_at, not_before) - clock_timestamp() AS remaining
