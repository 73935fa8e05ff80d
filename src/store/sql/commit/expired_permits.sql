-- expired_permits: permits that are about to be taken from their holders, which nobody has renewed and whose time is up by the database's
-- clock. Without the lock a renewal between the proof and the takeover would be overwritten.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id) AS v
JOIN permits p ON p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
    AND p.expires_at <= clock_timestamp()
FOR UPDATE OF p SKIP LOCKED
