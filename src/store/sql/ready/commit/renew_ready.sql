-- renew_ready: ready stages that were added again: they are ready where the new spec says, and wait for no permit.
UPDATE ready_stages r
SET queue = v.queue, priority = v.priority, ready_at = v.ready_at, group_key = v.group_key, alone = v.alone,
    resource_uid = v.resource_uid, amount = v.amount, blocked_on = NULL
FROM {rows}
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.job_uid = v.job_uid AND r.stage_no = v.stage_no
RETURNING 1
