-- due_leases: expired leases of which the check is due since $3, either all or those that were granted or renewed (their end less their
-- duration) since $2. Those that cannot be taken yet are moved out of the way before, by postpone_leases.
SELECT l.namespace_id, l.job_uid, l.stage_no, l.token_secret
FROM leases l
WHERE l.check_at >= coalesce($3::timestamptz, '-infinity') AND l.check_at <= now() AND l.expires_at <= now()
    AND ($2::timestamptz IS NULL OR l.expires_at - l.duration_us * interval '1 microsecond' >= $2)
ORDER BY l.check_at
LIMIT $1
