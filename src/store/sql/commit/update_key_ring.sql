-- update_key_ring: the version of the key ring, which lock_key_ring has locked.
UPDATE key_ring r
SET version = v.version, floor_version = v.floor_version
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int8[]) AS version, unnest($3::int8[]) AS floor_version) AS v
JOIN ok USING (c)
WHERE r.one
RETURNING 1
