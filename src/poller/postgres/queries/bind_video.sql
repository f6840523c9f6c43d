-- The row of an object, with the strongest external id that anybody has stated for it.
-- $1 bucket  $2 object_key  $3 external_id  $4 external_id_source  $5 the sources, weakest first
INSERT INTO videos (bucket, object_key, external_id, external_id_source)
VALUES ($1, $2, $3, $4)
ON CONFLICT (bucket, object_key) DO UPDATE
SET (external_id, external_id_source) = (
    SELECT bound.external_id, bound.external_id_source
    FROM (
        VALUES (videos.external_id, videos.external_id_source, 1),
               (excluded.external_id, excluded.external_id_source, 2)
    ) AS bound (external_id, external_id_source, arrival)
    ORDER BY array_position($5::text[], bound.external_id_source) DESC NULLS LAST, bound.arrival
    LIMIT 1
)
RETURNING id, external_id, external_id_source
