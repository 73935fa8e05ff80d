-- delete_records: deleted records, which lock_records has locked.
DELETE FROM records t
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id) AS v
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.collection = v.collection AND t.record_id = v.record_id
RETURNING 1
