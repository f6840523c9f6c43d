-- Which of these objects nobody has claimed with the bytes that they have now.
-- $1 bucket  $2 object keys  $3 when they were modified, pairwise
-- S3 gives the time in whole seconds when it is asked for one object, and perhaps not in a listing.
SELECT $1::text AS bucket, listed.object_key, v.resent_at, NULL AS analysis_id, NULL AS state,
       listed.modified_at AS since, clock_timestamp() AS now, false AS is_overtaken
FROM unnest($2::text[], $3::timestamptz[]) AS listed (object_key, modified_at)
LEFT JOIN videos v ON v.bucket = $1 AND v.object_key = listed.object_key
WHERE NOT EXISTS (
    SELECT FROM analyses a
    WHERE a.video_id = v.id AND a.object_modified_at >= date_trunc('second', listed.modified_at)
)
ORDER BY listed.object_key
