-- lock_key_ring: the key ring at its version, where credentials are written or something written stands on them.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int8[]) AS version, unnest($3::int8[]) AS floor_version) AS v
JOIN (SELECT version FROM key_ring WHERE one FOR NO KEY UPDATE SKIP LOCKED) r USING (version)
