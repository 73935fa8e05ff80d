-- note_key_use: sets when credentials were last used, at most once an hour each. A credential that another transaction is changing is skipped.
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
