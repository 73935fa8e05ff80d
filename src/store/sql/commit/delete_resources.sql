-- delete_resources: deleted resources, which lock_resources has locked.
DELETE FROM resources t
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid) AS v
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.resource_uid = v.resource_uid
RETURNING 1
