-- set_artifacts: what completed stages made.
INSERT INTO stage_artifacts (namespace_id, job_uid, stage_no, artifacts)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.artifacts
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::json[]) AS artifacts) AS v
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE SET artifacts = excluded.artifacts
RETURNING 1
