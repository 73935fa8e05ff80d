-- unblock_stages: lets stages be picked again that wait for a permit for too long: whoever should have woken them is gone.
UPDATE ready_stages t
SET blocked_on = NULL, blocked_until = NULL
FROM (
    SELECT r.namespace_id, r.job_uid, r.stage_no
    FROM ready_stages r
    WHERE r.blocked_on IS NOT NULL AND r.blocked_until <= clock_timestamp()
    LIMIT $1
    FOR UPDATE SKIP LOCKED
) r
WHERE t.namespace_id = r.namespace_id AND t.job_uid = r.job_uid AND t.stage_no = r.stage_no
RETURNING t.namespace_id, t.queue
