-- Videos with results, each with the pipeline whose results `timeline` shows; those that were
-- announced again least recently come first.
-- $1 video ids or null: all  $2 bucket or null: all  $3 how its keys begin  $4 pipeline or null
-- $5 not those that were announced again within (interval)  $6 at most so many
SELECT d.bucket, d.object_key, d.pipeline, d.revision, v.resent_at
FROM done_analyses d
JOIN videos v ON v.id = d.video_id
WHERE ($1::uuid[] IS NULL OR v.id = ANY ($1))
  AND ($2::text IS NULL OR (v.bucket = $2 AND starts_with(v.object_key, $3)))
  AND ($4::text IS NULL OR d.pipeline = $4)
  AND (v.resent_at IS NULL OR v.resent_at <= clock_timestamp() - $5::interval)
ORDER BY v.resent_at NULLS FIRST, v.created_at
LIMIT $6
