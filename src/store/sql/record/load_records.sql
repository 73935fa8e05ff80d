-- load_records: records by key, with all their fields in one snapshot. Of a record that has the known version and creation time only its times
-- come back.
SELECT k.i::int4, r.version, r.create_time, r.update_time,
    CASE WHEN s.same THEN NULL ELSE r.fields END,
    CASE WHEN s.same OR r.apart = 0 THEN NULL ELSE (SELECT json_object_agg(x.field, x.value) FROM record_values x
        WHERE x.namespace_id = k.namespace_id AND x.collection = k.collection AND x.record_id = k.record_id) END
FROM unnest($1::int4[], $2::text[], $3::text[], $4::int8[], $5::timestamptz[]) WITH ORDINALITY
    AS k(namespace_id, collection, record_id, version, create_time, i)
JOIN records r ON r.namespace_id = k.namespace_id AND r.collection = k.collection AND r.record_id = k.record_id
CROSS JOIN LATERAL (SELECT r.version = k.version AND r.create_time = k.create_time AS same) s
