-- prove_records: records that were only read by an answer that writes nothing, at the version of the very record (see
-- lock_records) it was decided on; no lock, for it is enough that the answer was true at one instant.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::int8[]) AS version, unnest($6::timestamptz[]) AS create_time) AS v
JOIN records r ON r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.version AND r.create_time = v.create_time
