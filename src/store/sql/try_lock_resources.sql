-- try_lock_resources: takes the locks of contended resources in key order, or fails where somebody has one; what is below them is loaded by
-- the next statement, which sees what the last holder did.
SELECT 1
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, resource_uid)
JOIN resources r ON r.namespace_id = k.namespace_id AND r.resource_uid = k.resource_uid
ORDER BY r.namespace_id, r.resource_uid
FOR NO KEY UPDATE OF r NOWAIT
