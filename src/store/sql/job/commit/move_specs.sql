-- move_specs: specs of stages that move to rows of their own. Their inputs are copied from the row of the job as it was.
INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on, input, parent_no, required_by, plan_digest)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.spec, v.depends_on, (j.inputs::json ->> v.stage_no::text)::json, v.parent_no, v.required_by, v.plan_digest
FROM {rows}
JOIN ok USING (c)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
