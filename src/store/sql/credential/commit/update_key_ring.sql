-- update_key_ring: the version of the key ring, under the lock of lock_key_ring.
UPDATE key_ring r
SET version = v.version, floor_version = v.floor_version
FROM {rows}
JOIN ok USING (c)
WHERE r.one
RETURNING 1
