-- lock_records: the records that will be written, where they still have the version the decision stood on and are the record it was
-- about: one that was made anew after a deletion counts from 1 again, and only its create_time tells it apart. A row that somebody
-- else is writing is skipped, not waited for: its component goes to the contended path.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::text[]) AS collection,
    unnest($4::text[]) AS record_id, unnest($5::int8[]) AS version, unnest($6::timestamptz[]) AS create_time) AS v
JOIN records r ON r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.version AND r.create_time = v.create_time
FOR NO KEY UPDATE OF r SKIP LOCKED
