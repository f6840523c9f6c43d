-- Work that stands still: unfinished, and nobody has held it or had to wait for it for a while.
-- $1 for how long (interval)
-- Nothing is left to do for what is overtaken: the object has newer bytes, or another pipeline has
-- analysed these since.
-- A video that was bound and never claimed has no analysis. It is given up after 14 days, the
-- retention of the DLQ: its announcements are there, if its object is gone.
SELECT v.bucket, v.object_key, v.resent_at, a.id AS analysis_id, a.state, a.since,
       clock_timestamp() AS now,
       EXISTS (
           SELECT FROM analyses newer
           WHERE newer.video_id = v.id
             AND (newer.object_modified_at > a.object_modified_at
                  OR (newer.revision = a.revision AND newer.id > a.id AND newer.state = 'done'))
       ) AS is_overtaken
FROM videos v
JOIN (
    SELECT *, greatest(lease_expires_at, not_before) AS since
    FROM analyses
    WHERE state IN ('processing', 'retry')
) a ON a.video_id = v.id
WHERE a.since <= clock_timestamp() - $1::interval
UNION ALL
SELECT v.bucket, v.object_key, v.resent_at, NULL, NULL, v.created_at, clock_timestamp(), false
FROM videos v
WHERE v.created_at <= clock_timestamp() - $1::interval
  AND v.created_at > clock_timestamp() - interval '14 days'
  AND NOT EXISTS (SELECT FROM analyses a WHERE a.video_id = v.id)
ORDER BY resent_at NULLS FIRST, since
LIMIT 10000
