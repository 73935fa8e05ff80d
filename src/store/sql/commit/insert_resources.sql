-- insert_resources: new resources. One that another server inserted since it was seen missing undoes the group.
INSERT INTO resources (namespace_id, resource_uid, name, version, policy, state, fencing_token, wakes_at, create_time, update_time)
SELECT v.namespace_id, v.resource_uid, v.name, v.version, v.policy, v.state, v.fencing_token, v.wakes_at, v.create_time,
    v.update_time
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::text[]) AS name, unnest($5::int8[]) AS version, unnest($6::json[]) AS policy, unnest($7::json[]) AS state,
    unnest($8::int8[]) AS fencing_token, unnest($9::timestamptz[]) AS wakes_at, unnest($10::timestamptz[]) AS create_time,
    unnest($11::timestamptz[]) AS update_time) AS v
JOIN ok USING (c)
RETURNING 1
