-- Why the claim gave no row. A statement of its own: in one statement with the claim it would
-- see the snapshot from before a rival's commit, and find nothing.
-- $1 video_id  $2 revision  $3 pipeline  $4 object_modified_at
-- An object that was overwritten and then got its old bytes back is newest in that revision again:
-- its time moves on, and with it what the timeline shows.
UPDATE analyses
SET object_modified_at = greatest(object_modified_at, $4)
WHERE video_id = $1 AND revision = $2 AND pipeline = $3
RETURNING state, lease_message_id, attempts, error_code, error_message,
          greatest(lease_expires_at, not_before) - clock_timestamp() AS remaining
