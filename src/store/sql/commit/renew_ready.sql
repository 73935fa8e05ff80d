-- renew_ready: stages that could be leased before and are something else now: they are found where they belong now, whatever they
-- waited for.
UPDATE ready_stages r
SET queue = v.queue, priority = v.priority, ready_at = v.ready_at, group_key = v.group_key, alone = v.alone,
    resource_uid = v.resource_uid, amount = v.amount, blocked_on = NULL
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::text[]) AS queue, unnest($6::int4[]) AS priority,
    unnest($7::timestamptz[]) AS ready_at, unnest($8::text[]) AS group_key, unnest($9::bool[]) AS alone,
    unnest($10::uuid[]) AS resource_uid, unnest($11::int8[]) AS amount) AS v
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.job_uid = v.job_uid AND r.stage_no = v.stage_no
RETURNING 1
