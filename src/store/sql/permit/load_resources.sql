-- load_resources: resources by key, each with its permits and its wait queue, in one snapshot. They are always loaded whole, so that expiries
-- are those that are stored.
SELECT r.namespace_id, r.resource_uid, r.name, r.version, r.policy, r.state, r.fencing_token, r.create_time, r.update_time,
    (SELECT json_agg(json_build_array(p.permit_id, (extract(epoch FROM p.expires_at) * 1000000)::int8, p.permit))
        FROM permits p WHERE p.namespace_id = k.namespace_id AND p.resource_uid = k.resource_uid),
    (SELECT json_agg(json_build_array(w.permit_id, w.waiter))
        FROM permit_waiters w WHERE w.namespace_id = k.namespace_id AND w.resource_uid = k.resource_uid)
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, resource_uid)
JOIN resources r ON r.namespace_id = k.namespace_id AND r.resource_uid = k.resource_uid
