-- pick_group: ready stages of one group, for a worker that takes whole groups. Those that wait for a permit are among them: the first stage of
-- the group shares its permits. Those that are leased alone are not.
SELECT r.namespace_id, r.job_uid, r.stage_no, r.priority, r.ready_at, r.group_key, r.alone
FROM ready_stages r
WHERE r.namespace_id = $1 AND r.queue = $2 AND r.group_key = $3 AND NOT r.alone
ORDER BY -r.priority, r.ready_at, r.job_uid, r.stage_no
LIMIT $4
