-- note_key_use: credentials that were used just now, where that was last noted an hour ago or more. A credential that is being changed is passed over.
UPDATE api_keys k
SET last_use_time = clock_timestamp()
FROM (
    SELECT key_id FROM api_keys
    WHERE key_id = ANY ($1::text[]) AND (last_use_time IS NULL OR last_use_time < clock_timestamp() - interval '1 hour')
    ORDER BY key_id
    FOR UPDATE SKIP LOCKED
) used
WHERE k.key_id = used.key_id
RETURNING 1
