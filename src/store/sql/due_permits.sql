-- due_permits: the resources of permits that nobody has renewed for $1 microseconds after they expired, in the pages from $2 to before $3 of
-- the table. Those for which somebody waits have an alarm. There is no index on expiries, so that renewals stay in place.
SELECT DISTINCT p.namespace_id, p.resource_uid
FROM permits p
WHERE p.ctid >= format('(%s,0)', $2::int8)::tid AND p.ctid < format('(%s,0)', $3::int8)::tid
    AND p.expires_at <= now() - $1::int8 * interval '1 microsecond'
