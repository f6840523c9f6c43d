-- The videos that a person means: by our id, the application's id, or the object.
-- $1 uuid or null, $2 external id or null, $3 bucket or null, $4 object key or null
SELECT *
FROM latest_analyses
WHERE video_id = $1
   OR external_id = $2
   OR (object_key = $4 AND ($3::text IS NULL OR bucket = $3))
ORDER BY video_id
LIMIT 100
