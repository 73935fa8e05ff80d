-- insert_records: new records. One that another server inserted since it was seen missing undoes the group.
INSERT INTO records (namespace_id, collection, record_id, version, fields, apart, create_time, update_time)
SELECT v.namespace_id, v.collection, v.record_id, v.version, v.fields, v.apart, v.create_time, v.update_time
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::int8[]) AS version, unnest($6::text[]) AS fields,
    unnest($7::int4[]) AS apart, unnest($8::timestamptz[]) AS create_time, unnest($9::timestamptz[]) AS update_time) AS v
JOIN ok USING (c)
RETURNING 1
