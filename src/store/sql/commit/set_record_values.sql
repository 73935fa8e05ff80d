-- set_record_values: large values of fields, below records of this group.
INSERT INTO record_values (namespace_id, collection, record_id, field, value)
SELECT v.namespace_id, v.collection, v.record_id, v.field, v.value
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::text[]) AS field, unnest($6::json[]) AS value) AS v
JOIN ok USING (c)
ON CONFLICT (namespace_id, collection, record_id, field) DO UPDATE SET value = excluded.value
RETURNING 1
