-- The nearest stored vectors to each video's longest shot, among the shots of all other videos.
-- $1 analysis ids  $2 how many for each
-- The model is in the text: as a parameter it would keep the planner from the partial index.
-- Overwritten revisions are left out by a question about each row that the index gives; joined, the
-- view would be read for every video there is.
WITH probes AS MATERIALIZED (
    SELECT DISTINCT ON (analysis_id) analysis_id, start_ms, end_ms, embedding::halfvec(256)
    FROM embeddings
    WHERE model = 'dct-hog-v1' AND kind = 'shot' AND analysis_id = ANY ($1::bigint[])
    ORDER BY analysis_id, end_ms - start_ms DESC, seq
)
SELECT p.analysis_id AS probe_analysis_id, p.start_ms AS probe_start_ms, p.end_ms AS probe_end_ms,
       n.analysis_id, n.start_ms, n.end_ms, n.distance
FROM probes p
JOIN analyses asked ON asked.id = p.analysis_id
CROSS JOIN LATERAL (
    SELECT e.analysis_id, e.start_ms, e.end_ms,
           e.embedding::halfvec(256) <=> p.embedding AS distance
    FROM embeddings e
    JOIN analyses a ON a.id = e.analysis_id
    WHERE e.model = 'dct-hog-v1' AND e.kind = 'shot'
      AND a.video_id <> asked.video_id
      AND (SELECT d.analysis_id = a.id FROM done_analyses d WHERE d.video_id = a.video_id)
    ORDER BY e.embedding::halfvec(256) <=> p.embedding
    LIMIT $2
) n
ORDER BY p.analysis_id, n.distance
