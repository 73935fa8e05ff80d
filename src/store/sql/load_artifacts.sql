-- load_artifacts: all artifacts of a job.
SELECT a.stage_no, a.artifacts
FROM stage_artifacts a
WHERE a.namespace_id = $1 AND a.job_uid = $2
