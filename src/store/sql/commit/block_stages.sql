-- block_stages: ready stages that wait in the line of a resource: nobody picks them until they are woken. Their jobs are proved to be as they
-- were, and the resource not to have changed, so that whoever wakes them finds them.
UPDATE ready_stages r
SET blocked_on = v.resource_uid, resource_uid = v.resource_uid, amount = v.amount
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::uuid[]) AS resource_uid, unnest($6::int8[]) AS amount) AS v
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.job_uid = v.job_uid AND r.stage_no = v.stage_no
RETURNING 1
