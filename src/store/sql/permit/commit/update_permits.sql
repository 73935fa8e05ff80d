-- update_permits: permits that changed otherwise than by an extension: they are shared by more holders, last longer than they were acquired
-- for, are lost (no expiry), or end earlier since the clock stepped back. No other change shortens a permit, which may have been extended
-- since it was read.
UPDATE permits p
SET permit = v.permit, expires_at = CASE
        WHEN v.expires_at IS NULL THEN NULL
        WHEN v.shortens THEN least(p.expires_at, v.expires_at)
        ELSE greatest(p.expires_at, v.expires_at)
    END
FROM {rows}
JOIN ok USING (c)
WHERE p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
RETURNING 1
