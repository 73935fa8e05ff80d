-- expired_leases: leases that are about to be taken from their holders, which nobody has renewed and whose time is up by
-- the database's clock. Without the lock a renewal between the proof and the takeover would be overwritten.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::uuid[]) AS token_secret) AS v
JOIN leases l ON l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
    AND l.token_secret = v.token_secret AND l.expires_at <= clock_timestamp()
FOR UPDATE OF l SKIP LOCKED
