-- update_resources: changed resources, under the lock of lock_resources. A resource that was deleted and created again in one group gets a new
-- create_time.
UPDATE resources r
SET version = v.version, policy = v.policy, state = v.state, fencing_token = v.fencing_token, wakes_at = v.wakes_at,
    create_time = v.create_time, update_time = v.update_time
FROM {rows}
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid
RETURNING 1
