-- insert_permits: granted permits, below resources of this group.
INSERT INTO permits (namespace_id, resource_uid, permit_id, expires_at, permit)
SELECT v.namespace_id, v.resource_uid, v.permit_id, v.expires_at, v.permit
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::json[])
    AS v(c, namespace_id, resource_uid, permit_id, expires_at, permit)
JOIN ok USING (c)
RETURNING 1
