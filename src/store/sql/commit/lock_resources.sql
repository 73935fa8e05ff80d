-- lock_resources: the resources that will be written, where they still have the version the decision stood on and are the resource it was
-- about (see lock_jobs). A row that somebody else is writing is skipped, not waited for: its component goes to the contended path.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::int8[]) AS version, unnest($5::timestamptz[]) AS create_time) AS v
JOIN resources r ON r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid AND r.version = v.version
    AND r.create_time = v.create_time
FOR NO KEY UPDATE OF r SKIP LOCKED
