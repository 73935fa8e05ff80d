-- permits_ahead: resources of which a permit ends later than it possibly can, because the clock stepped back, in the pages from $2 to before
-- $3 of the table of permits.
SELECT DISTINCT p.namespace_id, p.resource_uid
FROM permits p
WHERE p.ctid >= format('(%s,0)', $2::int8)::tid AND p.ctid < format('(%s,0)', $3::int8)::tid
    AND p.expires_at > now() + interval '6 seconds'
    AND p.expires_at > now() + interval '5 seconds' + make_interval(secs => greatest(
        (p.permit #>> '{ttl,secs}')::float8, (p.permit #>> '{renewed_for,secs}')::float8) + 1)
LIMIT $1
