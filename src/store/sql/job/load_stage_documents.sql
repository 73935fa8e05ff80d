-- load_stage_documents: inputs and artifacts of some stages of a job. The artifacts are a subquery, not a join: then there is only one way to
-- find them, by the whole key (see load_jobs).
SELECT n.stage_no, j.inputs::json ->> n.stage_no::text, j.artifacts::json ->> n.stage_no::text
FROM jobs j
CROSS JOIN unnest($3::int4[]) AS n(stage_no)
WHERE j.namespace_id = $1 AND j.job_uid = $2 AND j.stages IS NOT NULL
UNION ALL
SELECT p.stage_no, p.input::text,
    (SELECT a.artifacts::text FROM stage_artifacts a
    WHERE a.namespace_id = p.namespace_id AND a.job_uid = p.job_uid AND a.stage_no = p.stage_no)
FROM stage_specs p
WHERE p.namespace_id = $1 AND p.job_uid = $2 AND p.stage_no = ANY($3::int4[])
