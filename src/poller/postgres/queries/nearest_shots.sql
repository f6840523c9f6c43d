-- The nearest stored vectors to each video's longest shot, among the shots of all videos.
-- The model is in the text: as a parameter it would keep the planner from the partial index.
WITH probes AS MATERIALIZED (
    SELECT DISTINCT ON (analysis_id) analysis_id, seq, start_ms, end_ms, embedding::halfvec(256)
    FROM embeddings
    WHERE model = 'dct-hog-v1' AND kind = 'shot' AND analysis_id = ANY ($1::bigint[])
    ORDER BY analysis_id, end_ms - start_ms DESC, seq
)
SELECT p.analysis_id AS probe_analysis_id, p.start_ms AS probe_start_ms, p.end_ms AS probe_end_ms,
       n.analysis_id, n.start_ms, n.end_ms, n.distance
FROM probes p
CROSS JOIN LATERAL (
    SELECT e.analysis_id, e.start_ms, e.end_ms,
           e.embedding::halfvec(256) <=> p.embedding AS distance
    FROM embeddings e
    WHERE e.model = 'dct-hog-v1' AND e.kind = 'shot'
      AND (e.analysis_id, e.seq) <> (p.analysis_id, p.seq)
    ORDER BY e.embedding::halfvec(256) <=> p.embedding
    LIMIT $2
) n
ORDER BY p.analysis_id, n.distance
