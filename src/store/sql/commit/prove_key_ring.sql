-- prove_key_ring: the key ring that was only read, at its version.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int8[]) AS version, unnest($3::int8[]) AS floor_version) AS v
JOIN key_ring r ON r.one AND r.version = v.version
