-- idle_resources: locks (resources without a policy) that were not used for a day, in the pages from $1 to before $2 of the table. Deleting
-- them loses nothing: their fencing tokens continue above the floor of the namespace. Permits and waiters are looked up by scalar subqueries,
-- so that they are found by key and never joined.
SELECT r.namespace_id, r.resource_uid
FROM resources r
WHERE r.ctid >= format('(%s,0)', $1::int8)::tid AND r.ctid < format('(%s,0)', $2::int8)::tid
    AND r.policy IS NULL AND r.update_time < now() - interval '1 day'
    AND (SELECT true FROM permits p WHERE p.namespace_id = r.namespace_id AND p.resource_uid = r.resource_uid
        AND p.permit ->> 'lost_at' IS NULL LIMIT 1) IS NULL
    AND (SELECT true FROM permit_waiters w WHERE w.namespace_id = r.namespace_id AND w.resource_uid = r.resource_uid
        LIMIT 1) IS NULL
