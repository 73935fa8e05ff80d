-- update_records: the records that lock_records has locked, each as it is in the end. One that was deleted and created again by the
-- same group has a create_time of its own.
UPDATE records r
SET version = v.version, fields = v.fields, apart = v.apart, create_time = v.create_time, update_time = v.update_time
FROM unnest($1::int4[], $2::int4[], $3::text[], $4::text[], $5::int8[], $6::json[], $7::int4[], $8::timestamptz[],
    $9::timestamptz[])
    AS v(c, namespace_id, collection, record_id, version, fields, apart, create_time, update_time)
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
RETURNING 1
