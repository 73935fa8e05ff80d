-- insert_waiters: who waits from now on, below resources of this group.
INSERT INTO permit_waiters (namespace_id, resource_uid, permit_id, waiter)
SELECT v.namespace_id, v.resource_uid, v.permit_id, v.waiter
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid,
    unnest($4::uuid[]) AS permit_id, unnest($5::json[]) AS waiter) AS v
JOIN ok USING (c)
RETURNING 1
