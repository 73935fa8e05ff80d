-- next_lines: the wait queues of stages behind a resource, at most $3: the stage at the head of each, and of its resource the version, the wake-up and
-- the policy. The walk goes from one wait queue to the next in the index, and in one from each of its first 100 queues to the next, so its cost
-- does not grow with the number of stages.
WITH RECURSIVE lines AS (
    (SELECT r.blocked_on, r.namespace_id, 1 AS place
    FROM ready_stages r
    WHERE r.blocked_on IS NOT NULL AND (r.blocked_on, r.namespace_id) > ($1::uuid, $2::int4)
    ORDER BY r.blocked_on, r.namespace_id
    LIMIT 1)
    UNION ALL
    SELECT n.blocked_on, n.namespace_id, l.place + 1
    FROM lines l
    CROSS JOIN LATERAL (
        SELECT r.blocked_on, r.namespace_id
        FROM ready_stages r
        WHERE r.blocked_on IS NOT NULL AND (r.blocked_on, r.namespace_id) > (l.blocked_on, l.namespace_id)
        ORDER BY r.blocked_on, r.namespace_id
        LIMIT 1
    ) n
    WHERE l.place < $3::int8
)
SELECT l.namespace_id, l.blocked_on, h.job_uid, h.stage_no, s.version, (s.state -> 'stages')::text, h.priority, s.policy
FROM lines l
CROSS JOIN LATERAL (
    WITH RECURSIVE queues AS (
        (SELECT r.queue, 1 AS place
        FROM ready_stages r
        WHERE r.blocked_on = l.blocked_on AND r.namespace_id = l.namespace_id
        ORDER BY r.queue
        LIMIT 1)
        UNION ALL
        SELECT n.queue, q.place + 1
        FROM queues q
        CROSS JOIN LATERAL (
            SELECT r.queue
            FROM ready_stages r
            WHERE r.blocked_on = l.blocked_on AND r.namespace_id = l.namespace_id AND r.queue > q.queue
            ORDER BY r.queue
            LIMIT 1
        ) n
        WHERE q.place < 100
    )
    SELECT f.job_uid, f.stage_no, f.priority
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT r.job_uid, r.stage_no, r.priority, r.ready_at
        FROM ready_stages r
        WHERE r.blocked_on = l.blocked_on AND r.namespace_id = l.namespace_id AND r.queue = q.queue
        ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
        LIMIT 1
    ) f
    ORDER BY f.priority DESC, f.ready_at, f.job_uid, f.stage_no
    LIMIT 1
) h
LEFT JOIN resources s ON s.namespace_id = l.namespace_id AND s.resource_uid = l.blocked_on
ORDER BY l.place
