-- lock_key_ring: the key ring at its version, where credentials are written or a write was decided on them.
SELECT v.c
FROM {rows}
JOIN (SELECT version FROM key_ring WHERE one FOR NO KEY UPDATE SKIP LOCKED) r USING (version)
