-- set_artifacts: what completed stages made.
INSERT INTO stage_artifacts (namespace_id, job_uid, stage_no, artifacts)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.artifacts
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::json[]) AS v(c, namespace_id, job_uid, stage_no, artifacts)
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE SET artifacts = excluded.artifacts
RETURNING 1
