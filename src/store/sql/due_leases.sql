-- due_leases: leases whose time is up, either all or those that were granted or renewed since a moment, which is their end less their
-- duration; the table is as small as what runs now, so it is read whole.
SELECT l.namespace_id, l.job_uid, l.stage_no, l.token_secret
FROM leases l
WHERE l.expires_at <= now()
    AND ($2::timestamptz IS NULL OR l.expires_at - l.duration_us * interval '1 microsecond' >= $2)
ORDER BY l.expires_at
LIMIT $1
