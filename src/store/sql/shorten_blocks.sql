-- shorten_blocks: stages that wait for a permit and would be left alone for longer than anything is due at its resource, since the clock
-- stepped back. Reads all stages that wait, so it is asked only after a step was seen.
UPDATE ready_stages t
SET blocked_until = clock_timestamp()
WHERE t.ctid = ANY (ARRAY (
    SELECT s.ctid
    FROM ready_stages s
    JOIN resources r ON r.namespace_id = s.namespace_id AND r.resource_uid = s.blocked_on
    WHERE s.blocked_on IS NOT NULL AND s.blocked_until > now() + interval '15 seconds'
        AND (r.wakes_at IS NULL OR s.blocked_until > r.wakes_at + interval '15 seconds')
    LIMIT $1
    FOR UPDATE OF s SKIP LOCKED
))
RETURNING 1
