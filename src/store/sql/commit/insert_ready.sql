-- insert_ready: new stages that can be leased from now on; what is new needs no look whether it is there. A stage whose resource
-- others wait for that need no more, none of whom can be picked, waits behind them from the beginning, and no commit of its own says so. (A scalar
-- query is looked up row by row, where EXISTS might read the whole line for a hash.)
-- The places in lines are found as in set_ready.
INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, group_key, alone, resource_uid, amount, blocked_on)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.queue, v.priority, v.ready_at, v.group_key, v.alone,
    v.resource_uid, v.amount,
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
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::text[]) AS queue, unnest($6::int4[]) AS priority,
    unnest($7::timestamptz[]) AS ready_at, unnest($8::text[]) AS group_key, unnest($9::bool[]) AS alone,
    unnest($10::uuid[]) AS resource_uid, unnest($11::int8[]) AS amount) AS v
JOIN ok USING (c)
RETURNING 1
