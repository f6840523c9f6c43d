-- The parts of an analysis and how large they are, in order.
-- $1 analysis_id
SELECT part AS number, position_ms, octet_length(state) AS size_bytes
FROM checkpoints WHERE analysis_id = $1 ORDER BY part
