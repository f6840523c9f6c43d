-- Take it upon us to announce this video again; no row when somebody else did so meanwhile.
-- $1 bucket  $2 object_key  $3 resent_at as it was read, or null
-- An object that nobody has announced yet gets its row here.
INSERT INTO videos (bucket, object_key, resent_at)
VALUES ($1, $2, clock_timestamp())
ON CONFLICT (bucket, object_key) DO UPDATE
SET resent_at = excluded.resent_at
WHERE videos.resent_at IS NOT DISTINCT FROM $3
RETURNING resent_at
