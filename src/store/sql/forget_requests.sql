-- forget_requests: remembered requests older than 24 hours, some at a time.
DELETE FROM requests r
USING (SELECT namespace_id, request_id FROM requests WHERE create_time < now() - interval '24 hours' LIMIT $1) old
WHERE r.namespace_id = old.namespace_id AND r.request_id = old.request_id
RETURNING 1
