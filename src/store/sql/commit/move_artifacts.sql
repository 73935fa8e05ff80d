-- move_artifacts: artifacts of jobs that get rows for their stages, from the row of the job as it was; of stages that have some.
INSERT INTO stage_artifacts (namespace_id, job_uid, stage_no, artifacts)
SELECT v.namespace_id, v.job_uid, v.stage_no, (j.artifacts::json ->> v.stage_no::text)::json
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no) AS v
JOIN ok USING (c)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
WHERE j.artifacts::json ->> v.stage_no::text IS NOT NULL
RETURNING 1
