-- insert_records: new records. One that another server inserted since it was seen missing undoes the group.
INSERT INTO records (namespace_id, collection, record_id, version, fields, apart, create_time, update_time)
SELECT v.namespace_id, v.collection, v.record_id, v.version, v.fields, v.apart, v.create_time, v.update_time
FROM unnest($1::int4[], $2::int4[], $3::text[], $4::text[], $5::int8[], $6::json[], $7::int4[], $8::timestamptz[],
    $9::timestamptz[])
    AS v(c, namespace_id, collection, record_id, version, fields, apart, create_time, update_time)
JOIN ok USING (c)
RETURNING 1
