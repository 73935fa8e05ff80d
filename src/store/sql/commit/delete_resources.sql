-- delete_resources: deleted resources, which lock_resources has locked.
DELETE FROM resources t
USING unnest($1::int4[], $2::int4[], $3::uuid[]) AS v(c, namespace_id, resource_uid)
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.resource_uid = v.resource_uid
RETURNING 1
