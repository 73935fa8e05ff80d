-- insert_ready: new stages that are ready; no conflict is possible. A stage waits from the beginning, without a commit that says so, where its
-- resource has waiting stages that need no more than it, and no ready ones. (A scalar query is looked up row by row, where EXISTS might read
-- the whole wait queue for a hash.)
-- The wait queues are looked up as in set_ready.
INSERT INTO ready_stages ({columns}, blocked_on)
SELECT {values},
    CASE WHEN v.resource_uid IS NOT NULL AND (
        SELECT min(coalesce(b.amount, 1))
        FROM (
            SELECT r.amount
            FROM ready_stages r
            WHERE r.blocked_on = v.resource_uid AND r.namespace_id = v.namespace_id
            LIMIT 10
        ) b
    ) <= coalesce(v.amount, 1) AND (
        SELECT r.stage_no
        FROM ready_stages r
        WHERE r.resource_uid = v.resource_uid AND r.namespace_id = v.namespace_id AND r.blocked_on IS NULL
        LIMIT 1
    ) IS NULL THEN v.resource_uid END
FROM {rows}
JOIN ok USING (c)
RETURNING 1
