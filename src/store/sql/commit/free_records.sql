-- free_records: records that were taken not to be there and are not. Two who see the same one missing collide in the insert, which
-- undoes the whole group of one of them.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::text[], $4::text[]) AS v(c, namespace_id, collection, record_id)
WHERE NOT EXISTS (SELECT FROM records r WHERE r.namespace_id = v.namespace_id AND r.collection = v.collection
    AND r.record_id = v.record_id)
