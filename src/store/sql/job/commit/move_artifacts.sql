-- move_artifacts: artifacts of stages that move to rows of their own, copied from the row of the job as it was; of stages that have some.
INSERT INTO stage_artifacts ({columns}, artifacts)
SELECT {values}, (j.artifacts::json ->> v.stage_no::text)::json
FROM {rows}
JOIN ok USING (c)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
WHERE j.artifacts::json ->> v.stage_no::text IS NOT NULL
RETURNING 1
