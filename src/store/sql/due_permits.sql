-- due_permits: the resources of permits whose time is up. There is no index on expiries: the table holds what is held now.
SELECT DISTINCT p.namespace_id, p.resource_uid
FROM permits p
WHERE p.expires_at <= clock_timestamp()
LIMIT $1
