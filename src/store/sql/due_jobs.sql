-- due_jobs: jobs to which something is due: a delayed start, a timeout, the end of grace or of retention.
SELECT j.namespace_id, j.job_uid
FROM jobs j
WHERE j.wakes_at <= now()
ORDER BY j.wakes_at
LIMIT $1
