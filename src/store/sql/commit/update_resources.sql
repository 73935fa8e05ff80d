-- update_resources: the resources that lock_resources has locked, each as it is in the end. One that was deleted and created again by
-- the same group has a create_time of its own.
UPDATE resources r
SET version = v.version, policy = v.policy, state = v.state, fencing_token = v.fencing_token, wakes_at = v.wakes_at,
    create_time = v.create_time, update_time = v.update_time
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::text[], $5::int8[], $6::json[], $7::json[], $8::int8[], $9::timestamptz[],
    $10::timestamptz[], $11::timestamptz[])
    AS v(c, namespace_id, resource_uid, name, version, policy, state, fencing_token, wakes_at, create_time, update_time)
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid
RETURNING 1
