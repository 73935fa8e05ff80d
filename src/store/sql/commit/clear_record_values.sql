-- clear_record_values: large values of fields that are gone or have become small.
DELETE FROM record_values t
USING unnest($1::int4[], $2::int4[], $3::text[], $4::text[], $5::text[]) AS v(c, namespace_id, collection, record_id, field)
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.collection = v.collection AND t.record_id = v.record_id AND t.field = v.field
RETURNING 1
