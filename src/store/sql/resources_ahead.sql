-- resources_ahead: resources that were last changed by a clock that has stepped back since, or of which a permit ends further ahead than
-- it can last.
(SELECT r.namespace_id, r.resource_uid
FROM resources r
WHERE r.update_time > now() + interval '5 seconds'
LIMIT $1)
UNION
(SELECT p.namespace_id, p.resource_uid
FROM permits p
WHERE p.expires_at > now() + interval '6 seconds'
    AND p.expires_at > now() + interval '5 seconds' + make_interval(secs => greatest(
        (p.permit #>> '{ttl,secs}')::float8, (p.permit #>> '{renewed_for,secs}')::float8) + 1)
LIMIT $1)
