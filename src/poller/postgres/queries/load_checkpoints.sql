-- All parts of an analysis, in order.
-- $1 analysis_id
SELECT part AS number, position_ms, state AS stretch, carry
FROM checkpoints WHERE analysis_id = $1 ORDER BY part
