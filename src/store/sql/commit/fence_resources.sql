-- fence_resources: resources that something else was written on the strength of, at the version of the very resource; shared locks, so
-- that none of them changes before the group is committed.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::int8[]) AS version, unnest($5::timestamptz[]) AS create_time) AS v
JOIN resources r ON r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid AND r.version = v.version
    AND r.create_time = v.create_time
FOR SHARE OF r SKIP LOCKED
