-- How far these objects are; one that nobody has claimed yet is not in the answer.
-- $1 buckets, $2 object keys, pairwise
SELECT *
FROM latest_analyses
WHERE (bucket, object_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
  AND state IS NOT NULL
