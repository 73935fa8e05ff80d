-- rewire_specs: dependencies of stages that changed because another stage declared itself required by them, or no longer does.
UPDATE stage_specs s
SET depends_on = v.depends_on
FROM {rows}
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
