-- changed_keys: the version of the key ring, and the credentials that changed after version $1; all of them if some were deleted since, or if
-- $1 is above the stored version.
SELECT r.version, r.floor_version, $1 < r.floor_version OR $1 > r.version OR $1 = 0,
    k.key_id, k.version, k.changed_version, k.secret_hash, k.previous_hash, k.previous_until, k.certificate_name,
    k.label, k.roles, k.namespaces, k.rates, k.create_time, k.expire_time, k.revoke_time, k.last_use_time
FROM key_ring r
LEFT JOIN api_keys k ON k.changed_version > CASE WHEN $1 < r.floor_version OR $1 > r.version THEN 0 ELSE $1 END
ORDER BY k.key_id
