-- due_resources: resources at which something happens by itself; a net below the alarms of the servers.
SELECT r.namespace_id, r.resource_uid
FROM resources r
WHERE r.wakes_at <= now()
ORDER BY r.wakes_at
LIMIT $1
