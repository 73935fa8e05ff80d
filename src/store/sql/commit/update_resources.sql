-- update_resources: the resources that lock_resources has locked, each as it is in the end. One that was deleted and created again by
-- the same group has a create_time of its own.
UPDATE resources r
SET version = v.version, policy = v.policy, state = v.state, fencing_token = v.fencing_token, wakes_at = v.wakes_at,
    create_time = v.create_time, update_time = v.update_time
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::text[]) AS name, unnest($5::int8[]) AS version, unnest($6::json[]) AS policy, unnest($7::json[]) AS state,
    unnest($8::int8[]) AS fencing_token, unnest($9::timestamptz[]) AS wakes_at, unnest($10::timestamptz[]) AS create_time,
    unnest($11::timestamptz[]) AS update_time) AS v
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid
RETURNING 1
