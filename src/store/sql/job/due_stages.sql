-- due_stages: stages in rows of their own of which the backoff or the attempt has ended.
SELECT s.namespace_id, s.job_uid, s.stage_no
FROM stages s
WHERE s.wakes_at <= now()
ORDER BY s.wakes_at
LIMIT $1
