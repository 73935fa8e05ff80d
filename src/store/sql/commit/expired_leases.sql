-- expired_leases: leases that are about to be taken from their holders, which nobody has renewed and whose time is up by
-- the database's clock. Without the lock a renewal between the proof and the takeover would be overwritten.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::uuid[]) AS v(c, namespace_id, job_uid, stage_no, token_secret)
JOIN leases l ON l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
    AND l.token_secret = v.token_secret AND l.expires_at <= clock_timestamp()
FOR UPDATE OF l SKIP LOCKED
