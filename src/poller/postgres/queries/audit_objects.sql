-- What is stored for these objects, counted from the rows themselves.
-- $1 buckets, $2 object keys, pairwise
SELECT v.bucket, v.object_key, v.external_id, v.external_id_source,
       count(DISTINCT a.id) AS analyses,
       count(DISTINCT a.id) FILTER (WHERE a.state = 'done') AS done,
       coalesce(sum(a.events_count), 0) AS events_counted,
       (SELECT count(*) FROM events e JOIN analyses x ON x.id = e.analysis_id
        WHERE x.video_id = v.id) AS event_rows,
       (SELECT count(*) FROM embeddings e JOIN analyses x ON x.id = e.analysis_id
        WHERE x.video_id = v.id) AS embedding_rows
FROM videos v
LEFT JOIN analyses a ON a.video_id = v.id
WHERE (v.bucket, v.object_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
GROUP BY v.id
