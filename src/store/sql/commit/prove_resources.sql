-- prove_resources: resources that were only read by an answer that writes nothing, or of which only permits are extended, at the version of the very
-- resource it was decided on; no lock, for it is enough that the answer was true at one instant.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::int8[]) AS version, unnest($5::timestamptz[]) AS create_time) AS v
JOIN resources r ON r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid AND r.version = v.version
    AND r.create_time = v.create_time
