-- set_leases: leases that were granted; the row of an earlier holder is taken over.
INSERT INTO leases (namespace_id, job_uid, stage_no, token_secret, worker_id, duration_us, expires_at)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.token_secret, v.worker_id, v.duration_us, v.expires_at
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::uuid[], $6::text[], $7::int8[], $8::timestamptz[])
    AS v(c, namespace_id, job_uid, stage_no, token_secret, worker_id, duration_us, expires_at)
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE
    SET token_secret = excluded.token_secret, worker_id = excluded.worker_id, duration_us = excluded.duration_us,
        expires_at = excluded.expires_at
RETURNING 1
