-- due_resources: resources of which the timer is due; it only matters where no server has the timer in memory.
SELECT r.namespace_id, r.resource_uid
FROM resources r
WHERE r.wakes_at <= now()
ORDER BY r.wakes_at
LIMIT $1
