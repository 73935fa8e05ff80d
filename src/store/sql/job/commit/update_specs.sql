-- update_specs: specs of stages that their parent added again.
UPDATE stage_specs s
SET spec = v.spec, depends_on = v.depends_on, input = v.input, parent_no = v.parent_no, required_by = v.required_by,
    plan_digest = v.plan_digest
FROM {rows}
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
