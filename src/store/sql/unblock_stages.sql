-- unblock_stages: lets stages be picked again that have waited for a permit for too long: the server that should have woken them is gone. The
-- rows are updated by their place (see pick_ready).
UPDATE ready_stages t
SET blocked_on = NULL, blocked_until = NULL
WHERE t.ctid = ANY (ARRAY (
    SELECT r.ctid
    FROM ready_stages r
    WHERE r.blocked_on IS NOT NULL AND r.blocked_until <= now()
    ORDER BY r.blocked_until
    LIMIT $1
    FOR UPDATE SKIP LOCKED
))
RETURNING t.namespace_id, t.queue
