-- pick_ready: reserves the first ready stages of queues for this server, as many as its workers wait for. The reservation keeps
-- other servers from picking the same ones; it ends by itself, should this server die before it has leased them.
WITH picked AS MATERIALIZED (
    SELECT r.namespace_id, r.job_uid, r.stage_no
    FROM unnest($1::int4[], $2::text[], $3::int8[]) AS w(namespace_id, queue, wanted)
    CROSS JOIN LATERAL (
        SELECT r.namespace_id, r.job_uid, r.stage_no
        FROM ready_stages r
        WHERE r.namespace_id = w.namespace_id AND r.queue = w.queue
            AND r.blocked_on IS NULL
            AND (r.reserved_until IS NULL OR r.reserved_until < clock_timestamp())
        ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
        LIMIT w.wanted
        FOR UPDATE SKIP LOCKED
    ) r
)
UPDATE ready_stages t
SET reserved_by = $4, reserved_until = clock_timestamp() + interval '5 seconds'
FROM picked p
WHERE t.namespace_id = p.namespace_id AND t.job_uid = p.job_uid AND t.stage_no = p.stage_no
RETURNING t.namespace_id, t.job_uid, t.stage_no, t.queue, t.priority, t.ready_at, t.group_key
