-- fence_records: records that something else was written on the strength of, at the version of the very record (see lock_records);
-- shared locks, so that none of them changes before the group is committed.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::text[], $4::text[], $5::int8[], $6::timestamptz[])
    AS v(c, namespace_id, collection, record_id, version, create_time)
JOIN records r ON r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.version AND r.create_time = v.create_time
FOR SHARE OF r SKIP LOCKED
