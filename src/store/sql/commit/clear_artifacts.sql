-- clear_artifacts: artifacts of stages that run again; most have none.
DELETE FROM stage_artifacts a
USING unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[]) AS v(c, namespace_id, job_uid, stage_no)
JOIN ok USING (c)
WHERE a.namespace_id = v.namespace_id AND a.job_uid = v.job_uid AND a.stage_no = v.stage_no
RETURNING 1
