-- wake_stages: makes the first stages in the wait queues of resources ready again: `wanted` of each, less those that are ready already, in the
-- order of the wait queue; or as many of each of its first 100 queues. Stages that need more than the `largest` amount there ever is are
-- passed over. With an `arrival`, nothing is done once the stages' entry in the wait queue has another one: they have come since. Returns of
-- each resource how many stages are ready now, whether any waited, and each stage that was woken (one row without a stage where none was).
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT w.*, (
        SELECT count(*)
        FROM (
            SELECT 1
            FROM ready_stages r
            WHERE r.resource_uid = w.resource_uid AND r.namespace_id = w.namespace_id AND r.blocked_on IS NULL
            LIMIT greatest(1, w.stages)
        ) p
    ) AS pickable
    FROM unnest($1::int4[], $2::uuid[], $3::int8[], $4::int8[], $5::bool[], $6::int8[])
        AS w(namespace_id, resource_uid, stages, largest, every_queue, arrival)
    WHERE w.arrival IS NULL OR w.arrival = (
        SELECT (s.state #>> '{stages,arrival}')::int8
        FROM resources s
        WHERE s.namespace_id = w.namespace_id AND s.resource_uid = w.resource_uid
    )
), queues AS (
    SELECT w.*, q.queue, 1 AS place
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT r.queue
        FROM ready_stages r
        WHERE r.blocked_on = w.resource_uid AND r.namespace_id = w.namespace_id
        ORDER BY r.queue
        LIMIT 1
    ) q
    UNION ALL
    SELECT q.namespace_id, q.resource_uid, q.stages, q.largest, q.every_queue, q.arrival, q.pickable, n.queue, q.place + 1
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT r.queue
        FROM ready_stages r
        WHERE r.blocked_on = q.resource_uid AND r.namespace_id = q.namespace_id AND r.queue > q.queue
        ORDER BY r.queue
        LIMIT 1
    ) n
    WHERE q.place < 100
), heads AS MATERIALIZED (
    SELECT q.every_queue, q.stages - q.pickable AS missing, h.place, row_number() OVER (
        PARTITION BY q.namespace_id, q.resource_uid
        ORDER BY h.priority DESC, h.ready_at, h.job_uid, h.stage_no
    ) AS rank
    FROM queues q
    CROSS JOIN LATERAL (
        SELECT r.ctid AS place, r.priority, r.ready_at, r.job_uid, r.stage_no
        FROM ready_stages r
        WHERE r.blocked_on = q.resource_uid AND r.namespace_id = q.namespace_id AND r.queue = q.queue
            AND coalesce(r.amount, 1) <= q.largest
        ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
        LIMIT CASE WHEN q.every_queue THEN greatest(0, q.stages - (
            SELECT count(*)
            FROM (
                SELECT 1
                FROM ready_stages r
                WHERE r.resource_uid = q.resource_uid AND r.namespace_id = q.namespace_id AND r.queue = q.queue
                    AND r.blocked_on IS NULL
                LIMIT greatest(1, q.stages)
            ) p
        )) ELSE greatest(0, q.stages - q.pickable) END
    ) h
), locked AS MATERIALIZED (
    SELECT r.ctid AS place
    FROM ready_stages r
    WHERE r.ctid = ANY (ARRAY (SELECT h.place FROM heads h WHERE h.every_queue OR h.rank <= h.missing))
        AND r.blocked_on IS NOT NULL
    FOR UPDATE SKIP LOCKED
), woken AS (
    UPDATE ready_stages t
    SET blocked_on = NULL
    WHERE t.ctid = ANY (ARRAY (SELECT l.place FROM locked l))
    RETURNING t.namespace_id, t.resource_uid, t.job_uid, t.stage_no, t.queue, t.priority, t.ready_at, t.group_key, t.alone
)
SELECT w.namespace_id, w.resource_uid, w.pickable + count(k.job_uid) OVER (PARTITION BY w.namespace_id, w.resource_uid),
    EXISTS (SELECT 1 FROM queues q WHERE q.namespace_id = w.namespace_id AND q.resource_uid = w.resource_uid),
    k.namespace_id, k.job_uid, k.stage_no, k.priority, k.ready_at, k.group_key, k.alone, k.queue
FROM wanted w
LEFT JOIN woken k ON k.namespace_id = w.namespace_id AND k.resource_uid = w.resource_uid
