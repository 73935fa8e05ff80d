-- expired_permits: permits that are about to be taken from their holders, which nobody has renewed and whose time is up by the database's
-- clock. Without the lock a renewal between the proof and the takeover would be overwritten.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::uuid[]) AS v(c, namespace_id, resource_uid, permit_id)
JOIN permits p ON p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
    AND p.expires_at <= clock_timestamp()
FOR UPDATE OF p SKIP LOCKED
