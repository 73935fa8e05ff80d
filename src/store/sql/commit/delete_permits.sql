-- delete_permits: permits that have ended, below resources that lock_resources has locked.
DELETE FROM permits t
USING unnest($1::int4[], $2::int4[], $3::uuid[], $4::uuid[]) AS v(c, namespace_id, resource_uid, permit_id)
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.resource_uid = v.resource_uid AND t.permit_id = v.permit_id
RETURNING 1
