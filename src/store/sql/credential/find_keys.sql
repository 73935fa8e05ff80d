-- find_keys: a credential by id, or by the name in a certificate if it is not revoked.
SELECT k.key_id, k.version, k.changed_version, k.secret_hash, k.previous_hash, k.previous_until, k.certificate_name,
    k.label, k.roles, k.namespaces, k.rates, k.create_time, k.expire_time, k.revoke_time, k.last_use_time
FROM api_keys k
WHERE k.key_id = $1 OR k.certificate_name = $2 AND k.revoke_time IS NULL
