-- insert_permits: granted permits, below resources of this group.
INSERT INTO permits (namespace_id, resource_uid, permit_id, expires_at, permit)
SELECT v.namespace_id, v.resource_uid, v.permit_id, v.expires_at, v.permit
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id, unnest($5::timestamptz[]) AS expires_at, unnest($6::json[]) AS permit) AS v
JOIN ok USING (c)
RETURNING 1
