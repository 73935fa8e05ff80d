-- set_leases: granted leases; the row of an earlier holder is overwritten.
INSERT INTO leases ({columns}, check_at)
SELECT {values}, v.expires_at
FROM {rows}
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE
    SET token_secret = excluded.token_secret, fencing_token = excluded.fencing_token, worker_id = excluded.worker_id,
        duration_us = excluded.duration_us, expires_at = excluded.expires_at, check_at = excluded.check_at
RETURNING 1
