-- list_keys: credentials, newest first, behind a creation time and an id.
SELECT k.key_id, k.version, k.changed_version, k.secret_hash, k.previous_hash, k.previous_until, k.certificate_name,
    k.label, k.roles, k.namespaces, k.rates, k.create_time, k.expire_time, k.revoke_time, k.last_use_time
FROM api_keys k
WHERE $1::timestamptz IS NULL OR (k.create_time, k.key_id) < ($1, $2::text)
ORDER BY k.create_time DESC, k.key_id DESC
LIMIT $3
