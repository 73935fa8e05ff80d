-- delete_permits: permits that have ended, below resources that lock_resources has locked.
DELETE FROM permits t
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id) AS v
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.resource_uid = v.resource_uid AND t.permit_id = v.permit_id
RETURNING 1
