-- sweep_events: deletes at most $1 events of history of deleted namespaces.
DELETE FROM job_events e
USING (
    SELECT s.namespace_id, s.job_uid, s.revision FROM job_events s JOIN namespace_remains d USING (namespace_id) LIMIT $1
) old
WHERE e.namespace_id = old.namespace_id AND e.job_uid = old.job_uid AND e.revision = old.revision
RETURNING 1
