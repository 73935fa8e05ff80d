-- due_leases: leases whose time is up; the table is as small as what runs now, so it is read whole.
SELECT l.namespace_id, l.job_uid, l.stage_no, l.token_secret
FROM leases l
WHERE l.expires_at <= clock_timestamp()
ORDER BY l.expires_at
LIMIT $1
