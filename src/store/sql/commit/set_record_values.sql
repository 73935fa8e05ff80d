-- set_record_values: large values of fields, below records of this group.
INSERT INTO record_values (namespace_id, collection, record_id, field, value)
SELECT v.namespace_id, v.collection, v.record_id, v.field, v.value
FROM unnest($1::int4[], $2::int4[], $3::text[], $4::text[], $5::text[], $6::json[])
    AS v(c, namespace_id, collection, record_id, field, value)
JOIN ok USING (c)
ON CONFLICT (namespace_id, collection, record_id, field) DO UPDATE SET value = excluded.value
RETURNING 1
