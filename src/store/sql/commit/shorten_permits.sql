-- shorten_permits: permits that end further ahead than they can last, since the clock stepped back.
UPDATE permits p
SET expires_at = least(p.expires_at, v.expires_at)
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id, unnest($5::timestamptz[]) AS expires_at) AS v
JOIN ok USING (c)
WHERE p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
    AND p.expires_at IS NOT NULL
RETURNING 1
