-- due_stages: stages whose backoff or attempt has ended by the clock.
SELECT s.namespace_id, s.job_uid, s.stage_no
FROM stages s
WHERE s.wakes_at <= now()
ORDER BY s.wakes_at
LIMIT $1
