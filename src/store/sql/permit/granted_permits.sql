-- granted_permits: which of some permits are held; another server may have granted the permit that a caller of this one waits for.
SELECT p.permit_id
FROM unnest($1::int4[], $2::uuid[], $3::uuid[]) AS k(namespace_id, resource_uid, permit_id)
JOIN permits p ON p.namespace_id = k.namespace_id AND p.resource_uid = k.resource_uid AND p.permit_id = k.permit_id
WHERE p.expires_at IS NOT NULL
