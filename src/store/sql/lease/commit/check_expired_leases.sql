-- check_expired_leases: leases that are taken from their holders: they were not renewed and have expired by the database's clock. The lock
-- keeps a renewal from being overwritten that is committed between this check and the write.
SELECT v.c
FROM {rows}
JOIN leases l ON l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
    AND l.token_secret = v.token_secret AND l.expires_at <= clock_timestamp()
FOR UPDATE OF l SKIP LOCKED
