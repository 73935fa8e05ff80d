-- ready_queues: the first $1 queues that have ready stages, with their number and how long the oldest of those counted has been ready, in
-- seconds. At most $2 are counted in all, shared evenly among the queues, and at most a tenth of that in each. Stages that wait for a permit
-- are not counted. The walk goes from one queue to the next in the index and counts in it, so its cost does not grow with the number of ready
-- stages.
WITH RECURSIVE queues AS (
    (SELECT r.queue, r.namespace_id, 1::int8 AS place
    FROM ready_stages r
    WHERE r.blocked_on IS NULL
    ORDER BY r.queue, r.namespace_id
    LIMIT 1)
    UNION ALL
    SELECT n.queue, n.namespace_id, q.place + 1
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT r.queue, r.namespace_id
        FROM ready_stages r
        WHERE r.blocked_on IS NULL AND (r.queue, r.namespace_id) > (q.queue, q.namespace_id)
        ORDER BY r.queue, r.namespace_id
        LIMIT 1
    ) n
    WHERE q.place < $1::int8
), share AS (
    SELECT LEAST($2::int8 / 10, $2::int8 / GREATEST(1, count(*))) AS stages FROM queues
)
SELECT n.name, q.queue, c.stages, GREATEST(0, extract(epoch FROM clock_timestamp() - c.oldest))::float8
FROM queues q
JOIN namespaces n ON n.namespace_id = q.namespace_id
CROSS JOIN LATERAL (
    SELECT count(*) AS stages, min(r.ready_at) AS oldest
    FROM (
        SELECT r.ready_at
        FROM ready_stages r
        WHERE r.blocked_on IS NULL AND r.queue = q.queue AND r.namespace_id = q.namespace_id
        ORDER BY r.alone, -r.priority, r.ready_at
        LIMIT (SELECT s.stages FROM share s)
    ) r
) c
