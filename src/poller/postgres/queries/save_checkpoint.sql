-- Keep one part of an analysis under the fence. A part replaces all from its number on.
-- The row lock makes a claim wait for this statement, or this statement for the claim: what a
-- former holder writes is either seen by the next one or not written at all.
-- A part that ends further on than any before is behind what the device has failed at: its faults
-- are counted anew.
-- $1 analysis_id  $2 lease_token  $3 part  $4 position_ms  $5 state  $6 carry
-- $7 how far earlier claims got, or -1
WITH reached AS (
    SELECT $4 > greatest(max(position_ms), $7) AS is_further FROM checkpoints WHERE analysis_id = $1
), held AS (
    UPDATE analyses
    SET device_faults = CASE WHEN is_further THEN 0 ELSE device_faults END
    FROM reached
    WHERE id = $1 AND lease_token = $2 AND state = 'processing'
    RETURNING id, is_further
), obsolete AS (
    DELETE FROM checkpoints WHERE part > $3 AND analysis_id IN (SELECT id FROM held)
), outdated AS (
    UPDATE checkpoints SET carry = NULL
    WHERE part < $3 AND carry IS NOT NULL AND analysis_id IN (SELECT id FROM held)
)
INSERT INTO checkpoints (analysis_id, lease_token, part, position_ms, state, carry)
SELECT id, $2, $3, $4, $5, $6 FROM held
ON CONFLICT (analysis_id, part) DO UPDATE
SET lease_token = excluded.lease_token, position_ms = excluded.position_ms,
    state = excluded.state, carry = excluded.carry
RETURNING (SELECT is_further FROM held)
