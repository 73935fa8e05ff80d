-- lock_records: takes the locks of contended records in key order and waits for them; their fields are loaded by the next statement,
-- which sees what the wait was for.
SELECT 1
FROM unnest($1::int4[], $2::text[], $3::text[]) AS k(namespace_id, collection, record_id)
JOIN records r ON r.namespace_id = k.namespace_id AND r.collection = k.collection AND r.record_id = k.record_id
ORDER BY r.namespace_id, r.collection, r.record_id
FOR NO KEY UPDATE OF r
