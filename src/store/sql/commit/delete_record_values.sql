-- delete_record_values: all large values of deleted records.
DELETE FROM record_values t
USING unnest($1::int4[], $2::int4[], $3::text[], $4::text[]) AS v(c, namespace_id, collection, record_id)
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.collection = v.collection AND t.record_id = v.record_id
RETURNING 1
