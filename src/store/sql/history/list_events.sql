-- list_events: the history of a job since its creation (an earlier job of the same key is another one), after a revision, in order.
SELECT e.revision, e.run, e.event_time, e.kind, e.job_state, e.worker_id, e.stages, e.progress
FROM job_events e
WHERE e.namespace_id = $1 AND e.job_uid = $2 AND e.event_time >= $3 AND e.revision > $4
ORDER BY e.revision
LIMIT $5
