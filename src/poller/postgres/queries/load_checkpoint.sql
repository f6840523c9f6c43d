-- One part of an analysis. Its holder is the only one who writes any.
-- $1 analysis_id  $2 part
SELECT part AS number, position_ms, state AS stretch, carry
FROM checkpoints WHERE analysis_id = $1 AND part = $2
