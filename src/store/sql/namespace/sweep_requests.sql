-- sweep_requests: deletes at most $1 request ids of deleted namespaces.
DELETE FROM requests r
USING (
    SELECT s.namespace_id, s.request_id FROM requests s JOIN namespace_remains d USING (namespace_id) LIMIT $1
) old
WHERE r.namespace_id = old.namespace_id AND r.request_id = old.request_id
RETURNING 1
