-- list_waiters: those that wait for a permit of a resource behind a position, at most $7, in the order of priority, time, job and stage: callers, which
-- have no job and are at most 10,000, and stages of the first 100 queues. A queue is read from the position on, in one part that has its priority and
-- one below, each as the index has them. What was submitted of stages is looked up for those of the page alone.
WITH RECURSIVE queues AS (
    (SELECT r.queue, 1 AS place
    FROM ready_stages r
    WHERE r.blocked_on = $2::uuid AND r.namespace_id = $1::int4
    ORDER BY r.queue
    LIMIT 1)
    UNION ALL
    SELECT n.queue, q.place + 1
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT r.queue
        FROM ready_stages r
        WHERE r.blocked_on = $2::uuid AND r.namespace_id = $1::int4 AND r.queue > q.queue
        ORDER BY r.queue
        LIMIT 1
    ) n
    WHERE q.place < 100
), callers AS (
    SELECT w.waiter, (w.waiter ->> 'priority')::int4 AS priority,
        timestamptz 'epoch' + (w.waiter ->> 'arrival')::int8 * interval '1 microsecond' AS since
    FROM permit_waiters w
    WHERE w.namespace_id = $1::int4 AND w.resource_uid = $2::uuid
), stages AS (
    SELECT s.*
    FROM queues q
    CROSS JOIN LATERAL (
        (SELECT r.queue, r.priority, r.ready_at, r.job_uid, r.stage_no
        FROM ready_stages r
        WHERE r.blocked_on = $2::uuid AND r.namespace_id = $1::int4 AND r.queue = q.queue
            AND r.priority = $3::int4 AND (r.ready_at, r.job_uid, r.stage_no) > ($4::timestamptz, $5::uuid, $6::int4)
        ORDER BY r.ready_at, r.job_uid, r.stage_no
        LIMIT $7::int8)
        UNION ALL
        (SELECT r.queue, r.priority, r.ready_at, r.job_uid, r.stage_no
        FROM ready_stages r
        WHERE r.blocked_on = $2::uuid AND r.namespace_id = $1::int4 AND r.queue = q.queue AND r.priority < $3::int4
        ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
        LIMIT $7::int8)
    ) s
), page AS MATERIALIZED (
    SELECT c.waiter, NULL AS queue, c.priority, c.since, uuid '00000000-0000-0000-0000-000000000000' AS job_uid, 0 AS stage_no
    FROM callers c
    WHERE c.priority < $3::int4 OR (c.priority = $3::int4 AND c.since > $4::timestamptz)
    UNION ALL
    SELECT NULL, s.queue, s.priority, s.ready_at, s.job_uid, s.stage_no
    FROM stages s
    ORDER BY priority DESC, since, job_uid, stage_no
    LIMIT $7::int8
)
SELECT p.priority, p.since, p.job_uid, p.stage_no, p.waiter::text, p.queue, s.job_id, s.spec ->> 'name' AS name,
    (s.spec -> 'permits')::text AS permits
FROM page p
LEFT JOIN LATERAL (
    SELECT j.job_id, j.specs::json -> p.stage_no -> 'spec' AS spec
    FROM jobs j
    WHERE j.namespace_id = $1::int4 AND j.job_uid = p.job_uid AND j.stages IS NOT NULL
    UNION ALL
    SELECT j.job_id, c.spec
    FROM jobs j
    JOIN stage_specs c ON c.namespace_id = $1::int4 AND c.job_uid = p.job_uid AND c.stage_no = p.stage_no
    WHERE j.namespace_id = $1::int4 AND j.job_uid = p.job_uid AND j.stages IS NULL
    OFFSET 0
) s ON true
ORDER BY p.priority DESC, p.since, p.job_uid, p.stage_no
