-- due_permits: resources with permits that were not renewed for $1 microseconds after they expired, in the pages from $2 to before $3 of the
-- table. Permits that have waiters also have a timer. There is no index on expiries, so that renewals are updates in place (HOT).
SELECT DISTINCT p.namespace_id, p.resource_uid
FROM permits p
WHERE p.ctid >= format('(%s,0)', $2::int8)::tid AND p.ctid < format('(%s,0)', $3::int8)::tid
    AND p.expires_at <= now() - $1::int8 * interval '1 microsecond'
