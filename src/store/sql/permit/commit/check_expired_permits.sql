-- check_expired_permits: permits that are taken from their holders: they were not renewed and have expired by the database's clock. The lock
-- keeps a renewal from being overwritten that is committed between this check and the write.
SELECT v.c
FROM {rows}
JOIN permits p ON p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
    AND p.expires_at <= clock_timestamp()
FOR UPDATE OF p SKIP LOCKED
