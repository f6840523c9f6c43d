-- How the newest analysis of each revision of an object ended, and the id that is bound to it.
-- $1 bucket  $2 object_key
SELECT DISTINCT ON (a.revision) a.revision, a.state, v.external_id, v.external_id_source
FROM videos v
JOIN analyses a ON a.video_id = v.id
WHERE v.bucket = $1 AND v.object_key = $2
ORDER BY a.revision, a.id DESC
