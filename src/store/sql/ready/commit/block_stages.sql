-- block_stages: ready stages that wait for a permit of a resource: they are not picked until they are woken. The group checks that their jobs
-- and the resource have the version that was read, so the server that wakes the stages of the resource finds them.
UPDATE ready_stages r
SET blocked_on = v.resource_uid, resource_uid = v.resource_uid, amount = v.amount
FROM {rows}
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.job_uid = v.job_uid AND r.stage_no = v.stage_no
RETURNING 1
