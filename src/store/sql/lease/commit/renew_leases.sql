-- renew_leases: extends leases that are still the newest of their stage. It changes no revision, never shortens, and is right even where the
-- rest of its component is not applied; a lease that is gone, or that another transaction has locked, shows as a missing row. So renewals wait
-- for no lock, and transactions that grant and end leases never wait for a renewal that waits for them.
UPDATE leases l
SET expires_at = greatest(l.expires_at, v.expires_at)
FROM (SELECT v.*
    FROM {rows}
    JOIN leases l ON l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
        AND l.token_secret = v.token_secret
    FOR NO KEY UPDATE OF l SKIP LOCKED) AS v
WHERE l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
    AND l.token_secret = v.token_secret
RETURNING v.c
