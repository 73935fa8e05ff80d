-- insert_waiters: who waits from now on, below resources of this group.
INSERT INTO permit_waiters (namespace_id, resource_uid, permit_id, waiter)
SELECT v.namespace_id, v.resource_uid, v.permit_id, v.waiter
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::uuid[], $5::json[])
    AS v(c, namespace_id, resource_uid, permit_id, waiter)
JOIN ok USING (c)
RETURNING 1
