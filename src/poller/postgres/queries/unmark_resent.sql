-- The announcement could not be sent.
-- $1 bucket  $2 object_key  $3 resent_at as we set it  $4 as it was before, or null
UPDATE videos
SET resent_at = $4
WHERE bucket = $1 AND object_key = $2 AND resent_at = $3
