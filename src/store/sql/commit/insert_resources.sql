-- insert_resources: new resources. One that another server inserted since it was seen missing undoes the group.
INSERT INTO resources (namespace_id, resource_uid, name, version, policy, state, fencing_token, wakes_at, create_time, update_time)
SELECT v.namespace_id, v.resource_uid, v.name, v.version, v.policy, v.state, v.fencing_token, v.wakes_at, v.create_time,
    v.update_time
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::text[], $5::int8[], $6::json[], $7::json[], $8::int8[], $9::timestamptz[],
    $10::timestamptz[], $11::timestamptz[])
    AS v(c, namespace_id, resource_uid, name, version, policy, state, fencing_token, wakes_at, create_time, update_time)
JOIN ok USING (c)
RETURNING 1
