-- set_leases: leases that were granted; the row of an earlier holder is taken over.
INSERT INTO leases (namespace_id, job_uid, stage_no, token_secret, fencing_token, worker_id, duration_us, expires_at, check_at)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.token_secret, v.fencing_token, v.worker_id, v.duration_us, v.expires_at, v.expires_at
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::uuid[]) AS token_secret, unnest($6::int8[]) AS fencing_token,
    unnest($7::text[]) AS worker_id, unnest($8::int8[]) AS duration_us, unnest($9::timestamptz[]) AS expires_at) AS v
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE
    SET token_secret = excluded.token_secret, fencing_token = excluded.fencing_token, worker_id = excluded.worker_id,
        duration_us = excluded.duration_us, expires_at = excluded.expires_at, check_at = excluded.check_at
RETURNING 1
