-- queue_names: the first $3 queues of a namespace behind a name that have ready stages, and the first $3 that have stages that wait for a permit.
-- The first walk goes from one queue of all namespaces to the next in the index of ready stages, at most $4 queues: where it ended for that
-- reason, the last of them is marked. So the cost does not grow with the number of stages.
WITH RECURSIVE ready AS (
    SELECT $2::text COLLATE "C" AS queue, false AS is_own, 0::int8 AS place, 0::int8 AS found
    UNION ALL
    SELECT n.queue, o.is_own, w.place + 1, w.found + o.is_own::int4
    FROM ready w
    CROSS JOIN LATERAL (
        SELECT r.queue
        FROM ready_stages r
        WHERE r.blocked_on IS NULL AND r.queue > w.queue
        ORDER BY r.queue, r.namespace_id
        LIMIT 1
    ) n
    CROSS JOIN LATERAL (
        SELECT (
            SELECT r.stage_no
            FROM ready_stages r
            WHERE r.blocked_on IS NULL AND r.queue = n.queue AND r.namespace_id = $1::int4
            LIMIT 1
        ) IS NOT NULL AS is_own
    ) o
    WHERE w.place < $4::int8 AND w.found < $3::int8
), waiting AS (
    SELECT $2::text COLLATE "C" AS queue, 0::int8 AS place
    UNION ALL
    SELECT n.queue, w.place + 1
    FROM waiting w
    CROSS JOIN LATERAL (
        SELECT r.queue
        FROM ready_stages r
        WHERE r.blocked_on IS NOT NULL AND (r.namespace_id + 0) = $1::int4 AND r.queue > w.queue
        ORDER BY r.queue
        LIMIT 1
    ) n
    WHERE w.place < $3::int8
)
SELECT w.queue, w.is_own, w.place = $4::int8 AS is_last FROM ready w WHERE w.place > 0 AND (w.is_own OR w.place = $4::int8)
UNION ALL
SELECT w.queue, true, false FROM waiting w WHERE w.place > 0
