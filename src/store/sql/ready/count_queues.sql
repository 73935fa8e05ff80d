-- count_queues: of queues of a namespace, one after the other, the number of ready stages, how long the oldest of them has been ready, and the number
-- of stages that wait for a permit. In each, $3 stages of either kind are counted, and one more where there are more; after the queue with
-- which $4 have been counted, the rest is left out. The oldest stage is that of the first 20 priorities and of all that were counted.
WITH RECURSIVE counted AS (
    SELECT 0::int4 AS place, NULL::text AS queue, 0::int8 AS ready, NULL::timestamptz AS oldest, 0::int8 AS waiting, 0::int8 AS total
    UNION ALL
    SELECT c.place + 1, q.queue, r.stages, LEAST(r.oldest, f.oldest), w.stages, c.total + r.stages + w.stages
    FROM counted c
    CROSS JOIN LATERAL (SELECT ($2::text[])[c.place + 1] AS queue) q
    CROSS JOIN LATERAL (
        SELECT count(*) AS stages, min(r.ready_at) AS oldest
        FROM (
            SELECT r.ready_at
            FROM ready_stages r
            WHERE r.blocked_on IS NULL AND r.queue = q.queue AND r.namespace_id = $1::int4
            ORDER BY r.alone, -r.priority, r.ready_at
            LIMIT $3::int8 + 1
        ) r
    ) r
    CROSS JOIN LATERAL (
        WITH RECURSIVE ranks AS (
            (SELECT r.alone, -r.priority AS rank, r.ready_at, 1 AS place
            FROM ready_stages r
            WHERE r.blocked_on IS NULL AND r.queue = q.queue AND r.namespace_id = $1::int4
            ORDER BY r.alone, -r.priority, r.ready_at
            LIMIT 1)
            UNION ALL
            SELECT n.alone, n.rank, n.ready_at, k.place + 1
            FROM ranks k
            CROSS JOIN LATERAL (
                SELECT r.alone, -r.priority AS rank, r.ready_at
                FROM ready_stages r
                WHERE r.blocked_on IS NULL AND r.queue = q.queue AND r.namespace_id = $1::int4 AND (r.alone, -r.priority) > (k.alone, k.rank)
                ORDER BY r.alone, -r.priority, r.ready_at
                LIMIT 1
            ) n
            WHERE k.place < 20
        )
        SELECT min(k.ready_at) AS oldest FROM ranks k
    ) f
    CROSS JOIN LATERAL (
        SELECT count(*) AS stages
        FROM (
            SELECT
            FROM ready_stages r
            WHERE r.blocked_on IS NOT NULL AND (r.namespace_id + 0) = $1::int4 AND r.queue = q.queue
            LIMIT $3::int8 + 1
        ) r
    ) w
    WHERE c.place < cardinality($2::text[]) AND c.total < $4::int8
)
SELECT c.queue, c.ready, c.oldest, c.waiting FROM counted c WHERE c.place > 0 ORDER BY c.place
