-- load_stage_documents: inputs and artifacts of some stages of a job. The artifacts are a subquery, not a join: then there is but one way
-- to find them, by the whole key (see load_jobs).
SELECT p.stage_no, p.input,
    (SELECT a.artifacts FROM stage_artifacts a
    WHERE a.namespace_id = p.namespace_id AND a.job_uid = p.job_uid AND a.stage_no = p.stage_no)
FROM stage_specs p
WHERE p.namespace_id = $1 AND p.job_uid = $2 AND p.stage_no = ANY($3::int4[])
