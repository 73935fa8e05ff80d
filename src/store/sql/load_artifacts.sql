-- load_artifacts: all artifacts of jobs.
SELECT a.namespace_id, a.job_uid, a.stage_no, a.artifacts
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, job_uid)
JOIN stage_artifacts a ON a.namespace_id = k.namespace_id AND a.job_uid = k.job_uid
