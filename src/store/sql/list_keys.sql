-- list_keys: credentials behind an id, in order of their ids.
SELECT k.key_id, k.version, k.changed_version, k.secret_hash, k.previous_hash, k.previous_until, k.certificate_name,
    k.label, k.roles, k.namespaces, k.rates, k.create_time, k.expire_time, k.revoke_time, k.last_use_time
FROM api_keys k
WHERE k.key_id > $1
ORDER BY k.key_id
LIMIT $2
