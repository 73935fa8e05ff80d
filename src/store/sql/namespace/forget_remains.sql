-- forget_remains: deletes the records of deleted namespaces of which nothing is left and no server accepts calls any more.
DELETE FROM namespace_remains d
WHERE d.delete_time < now() - interval '10 minutes'
    AND NOT EXISTS (SELECT FROM requests r WHERE r.namespace_id = d.namespace_id)
    AND NOT EXISTS (SELECT FROM job_events e WHERE e.namespace_id = d.namespace_id)
