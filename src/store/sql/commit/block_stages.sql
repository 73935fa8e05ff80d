-- block_stages: ready stages that wait for a permit: nobody picks them until they are woken, or the time is up. Their jobs are proved to be as they were,
-- and the resource not to have changed, so that whoever wakes them finds them.
UPDATE ready_stages r
SET blocked_on = v.blocked_on, blocked_until = v.blocked_until, reserved_by = NULL, reserved_until = NULL
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::uuid[], $6::timestamptz[])
    AS v(c, namespace_id, job_uid, stage_no, blocked_on, blocked_until)
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.job_uid = v.job_uid AND r.stage_no = v.stage_no
RETURNING 1
