-- update_records: changed records, each as it is in the end, where they still have the version the decision stood on and are the record it
-- was about. One that was deleted and created again by the same group has a create_time of its own.
UPDATE records r
SET version = v.version, fields = v.fields, apart = coalesce(v.apart, 0), create_time = v.create_time, update_time = v.update_time
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::int8[]) AS version, unnest($6::text[]) AS fields,
    unnest($7::int4[]) AS apart, unnest($8::timestamptz[]) AS create_time, unnest($9::timestamptz[]) AS update_time,
    unnest($10::int8[]) AS replaces, unnest($11::timestamptz[]) AS replaces_made) AS v
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.replaces AND r.create_time = coalesce(v.replaces_made, v.create_time)
RETURNING 1
