-- join_lines: puts ready stages into the wait queue of the first resource that they need, at most $3 of each resource; not while stages are
-- being woken there, or were woken and have no workers. One of them was just blocked, so each of the others would be.
WITH waits AS MATERIALIZED (
    SELECT r.place
    FROM unnest($1::int4[], $2::uuid[]) AS w(namespace_id, resource_uid)
    JOIN resources s ON s.namespace_id = w.namespace_id AND s.resource_uid = w.resource_uid
        AND s.state -> 'stages' IS NOT NULL AND s.state #> '{stages,wake}' IS NULL
    CROSS JOIN LATERAL (
        SELECT r.ctid AS place
        FROM ready_stages r
        WHERE r.resource_uid = w.resource_uid AND r.namespace_id = w.namespace_id AND r.blocked_on IS NULL
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) r
)
UPDATE ready_stages t
SET blocked_on = t.resource_uid
WHERE t.ctid = ANY (ARRAY (SELECT w.place FROM waits w)) AND t.blocked_on IS NULL
RETURNING t.namespace_id, t.job_uid, t.stage_no, t.priority, t.ready_at, t.group_key, t.alone, t.queue
