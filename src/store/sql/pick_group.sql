-- pick_group: reserves more ready stages of one group, for a worker that takes whole groups. Those that wait for a permit come
-- along: the one that is reserved already has got it, and shares it. Those that are leased
-- alone stay behind. The rows are updated by their place (see pick_ready).
UPDATE ready_stages t
SET blocked_on = NULL, blocked_until = NULL, reserved_by = $5, reserved_until = clock_timestamp() + interval '5 seconds'
WHERE t.ctid = ANY (ARRAY (
    SELECT r.ctid
    FROM ready_stages r
    WHERE r.namespace_id = $1 AND r.queue = $2 AND r.group_key = $3 AND NOT r.alone
        AND (r.reserved_until IS NULL OR r.reserved_until < clock_timestamp()
            OR r.reserved_until > clock_timestamp() + interval '10 seconds')
    ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
    LIMIT $4
    FOR UPDATE SKIP LOCKED
))
RETURNING t.namespace_id, t.job_uid, t.stage_no, t.queue, t.priority, t.ready_at, t.group_key, t.alone
