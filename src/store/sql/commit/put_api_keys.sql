-- put_api_keys: new and changed credentials; all of them are below the key ring, which is locked. When one was last used is no part of it.
INSERT INTO api_keys (key_id, version, changed_version, secret_hash, previous_hash, previous_until, certificate_name,
    label, roles, namespaces, rates, create_time, expire_time, revoke_time)
SELECT v.key_id, v.version, v.changed_version, v.secret_hash, v.previous_hash, v.previous_until, v.certificate_name,
    v.label, v.roles, v.namespaces, v.rates, v.create_time, v.expire_time, v.revoke_time
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS key_id, unnest($3::int8[]) AS version,
    unnest($4::int8[]) AS changed_version, unnest($5::bytea[]) AS secret_hash, unnest($6::bytea[]) AS previous_hash,
    unnest($7::timestamptz[]) AS previous_until, unnest($8::text[]) AS certificate_name, unnest($9::text[]) AS label,
    unnest($10::json[]) AS roles, unnest($11::json[]) AS namespaces, unnest($12::json[]) AS rates,
    unnest($13::timestamptz[]) AS create_time, unnest($14::timestamptz[]) AS expire_time,
    unnest($15::timestamptz[]) AS revoke_time) AS v
JOIN ok USING (c)
ON CONFLICT (key_id) DO UPDATE SET
    version = excluded.version, changed_version = excluded.changed_version, secret_hash = excluded.secret_hash,
    previous_hash = excluded.previous_hash, previous_until = excluded.previous_until,
    certificate_name = excluded.certificate_name, label = excluded.label, roles = excluded.roles,
    namespaces = excluded.namespaces, rates = excluded.rates, expire_time = excluded.expire_time,
    revoke_time = excluded.revoke_time
RETURNING 1
