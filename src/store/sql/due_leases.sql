-- due_leases: expired leases that are due for a check since a moment ($3), either all or those that were granted or renewed since another
-- ($2), which is their end less their duration. Those that are checked in vain are moved out of the way first, by postpone_leases.
SELECT l.namespace_id, l.job_uid, l.stage_no, l.token_secret
FROM leases l
WHERE l.check_at >= coalesce($3::timestamptz, '-infinity') AND l.check_at <= now() AND l.expires_at <= now()
    AND ($2::timestamptz IS NULL OR l.expires_at - l.duration_us * interval '1 microsecond' >= $2)
ORDER BY l.check_at
LIMIT $1
