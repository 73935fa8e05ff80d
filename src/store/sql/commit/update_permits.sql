-- update_permits: permits that other stages share from now on, or that are lost and then have no expiry. That of one that is held stays as it
-- is: it may have been extended since it was read.
UPDATE permits p
SET permit = v.permit, expires_at = CASE WHEN v.expires_at IS NULL THEN NULL ELSE p.expires_at END
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id, unnest($5::timestamptz[]) AS expires_at, unnest($6::json[]) AS permit) AS v
JOIN ok USING (c)
WHERE p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
RETURNING 1
