-- fence_resources: resources that something else was written on the strength of, at the version of the very resource; shared locks, so
-- that none of them changes before the group is committed.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int8[], $5::timestamptz[])
    AS v(c, namespace_id, resource_uid, version, create_time)
JOIN resources r ON r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid AND r.version = v.version
    AND r.create_time = v.create_time
FOR SHARE OF r SKIP LOCKED
