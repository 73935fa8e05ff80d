-- renew_permits: extends permits that are still held. It changes no version, never shortens, and is right even where the rest of its component
-- is not applied; a permit that is gone shows as a missing row.
UPDATE permits p
SET expires_at = greatest(p.expires_at, v.expires_at)
FROM {rows}
WHERE p.namespace_id = v.namespace_id AND p.resource_uid = v.resource_uid AND p.permit_id = v.permit_id
    AND p.expires_at IS NOT NULL
RETURNING v.c
