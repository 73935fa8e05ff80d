-- free_records: records that were taken not to be there and are not. Two who see the same one missing collide in the insert, which
-- undoes the whole group of one of them.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id) AS v
WHERE NOT EXISTS (SELECT FROM records r WHERE r.namespace_id = v.namespace_id AND r.collection = v.collection
    AND r.record_id = v.record_id)
