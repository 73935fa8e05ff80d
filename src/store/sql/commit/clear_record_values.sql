-- clear_record_values: large values of fields that are gone or have become small.
DELETE FROM record_values t
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::text[]) AS field) AS v
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.collection = v.collection AND t.record_id = v.record_id AND t.field = v.field
RETURNING 1
