-- oldest_event: the oldest revision of a job that history still has; its first days may have been dropped.
SELECT min(e.revision)
FROM job_events e
WHERE e.namespace_id = $1 AND e.job_uid = $2 AND e.event_time >= $3
