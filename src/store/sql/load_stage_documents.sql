-- load_stage_documents: inputs and artifacts of some stages of a job.
SELECT p.stage_no, p.input, a.artifacts
FROM stage_specs p
LEFT JOIN stage_artifacts a ON a.namespace_id = p.namespace_id AND a.job_uid = p.job_uid AND a.stage_no = p.stage_no
WHERE p.namespace_id = $1 AND p.job_uid = $2 AND p.stage_no = ANY($3::int4[])
