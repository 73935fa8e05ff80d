-- prove_records: records that were only read by an answer that writes nothing, at the version of the very record (see
-- lock_records) it was decided on; no lock, for it is enough that the answer was true at one instant.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::text[], $4::text[], $5::int8[], $6::timestamptz[])
    AS v(c, namespace_id, collection, record_id, version, create_time)
JOIN records r ON r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.version AND r.create_time = v.create_time
