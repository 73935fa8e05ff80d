-- put_api_keys: new and changed credentials, under the lock of the key ring. When one was last used is not set here.
INSERT INTO api_keys ({columns})
SELECT {values}
FROM {rows}
JOIN ok USING (c)
ON CONFLICT (key_id) DO UPDATE SET
    version = excluded.version, changed_version = excluded.changed_version, secret_hash = excluded.secret_hash,
    previous_hash = excluded.previous_hash, previous_until = excluded.previous_until,
    certificate_name = excluded.certificate_name, label = excluded.label, roles = excluded.roles,
    namespaces = excluded.namespaces, rates = excluded.rates, expire_time = excluded.expire_time,
    revoke_time = excluded.revoke_time
RETURNING 1
