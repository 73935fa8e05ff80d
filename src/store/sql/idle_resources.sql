-- idle_resources: locks that nobody has used for a day; nothing is lost with them but their numbers, which go on above the namespace's floor.
SELECT r.namespace_id, r.resource_uid
FROM resources r
WHERE r.policy IS NULL AND r.update_time < clock_timestamp() - interval '1 day'
    AND NOT EXISTS (SELECT FROM permits p WHERE p.namespace_id = r.namespace_id AND p.resource_uid = r.resource_uid
        AND p.permit ->> 'lost_at' IS NULL)
    AND NOT EXISTS (SELECT FROM permit_waiters w WHERE w.namespace_id = r.namespace_id AND w.resource_uid = r.resource_uid)
LIMIT $1
