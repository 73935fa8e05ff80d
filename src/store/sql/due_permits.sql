-- due_permits: the resources of permits that nobody has renewed for $2 microseconds after their time was up. Those for which somebody waits
-- have an alarm. There is no index on expiries: the table holds what is held now.
SELECT DISTINCT p.namespace_id, p.resource_uid
FROM permits p
WHERE p.expires_at <= clock_timestamp() - $2::int8 * interval '1 microsecond'
LIMIT $1
