-- wake_stages: lets the first ready stages that wait for resources be picked again, as many of each as it has room for. Says of each woken
-- stage which resource and queue it is of. The rows are updated by their place (see pick_ready).
WITH woken AS MATERIALIZED (
    SELECT r.place, w.resource_uid
    FROM unnest($1::int4[], $2::uuid[], $3::int8[]) AS w(namespace_id, resource_uid, wanted)
    CROSS JOIN LATERAL (
        SELECT r.ctid AS place
        FROM ready_stages r
        WHERE r.blocked_on = w.resource_uid AND r.namespace_id = w.namespace_id
        ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
        LIMIT w.wanted
        FOR UPDATE SKIP LOCKED
    ) r
)
UPDATE ready_stages t
SET blocked_on = NULL, blocked_until = NULL
FROM woken w
WHERE t.ctid = ANY (ARRAY (SELECT p.place FROM woken p)) AND t.ctid = w.place
RETURNING t.namespace_id, w.resource_uid, t.queue
