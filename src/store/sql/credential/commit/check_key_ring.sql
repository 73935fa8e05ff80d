-- check_key_ring: the key ring that was only read, at its version.
SELECT v.c
FROM {rows}
JOIN key_ring r ON r.one AND r.version = v.version
