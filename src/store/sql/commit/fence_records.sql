-- fence_records: records that something else was written on the strength of, at the version of the very record (see lock_records);
-- shared locks, so that none of them changes before the group is committed.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::int8[]) AS version, unnest($6::timestamptz[]) AS create_time) AS v
JOIN records r ON r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.version AND r.create_time = v.create_time
FOR SHARE OF r SKIP LOCKED
