-- set_artifacts: artifacts of completed stages.
INSERT INTO stage_artifacts ({columns})
SELECT {values}
FROM {rows}
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE SET artifacts = excluded.artifacts
RETURNING 1
