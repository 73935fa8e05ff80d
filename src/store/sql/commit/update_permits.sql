-- update_permits: permits that changed otherwise than by being extended: others share them now, they last longer than they were acquired for, they
-- are lost and then have no expiry, or they end earlier since the clock stepped back. All else never shortens: one may have been extended since
-- it was read.
UPDATE permits p
SET permit = v.permit, expires_at = CASE
        WHEN v.expires_at IS NULL THEN NULL
        WHEN v.shortens THEN least(p.expires_at, v.expires_at)
        ELSE greatest(p.expires_at, v.expires_at)
    END
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id, unnest($5::timestamptz[]) AS expires_at, unnest($6::json[]) AS permit,
    unnest($7::bool[]) AS shortens) AS v
JOIN ok USING (c)
WHERE p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
RETURNING 1
