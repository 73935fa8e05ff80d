-- clear_ready: stages that can no longer be leased.
DELETE FROM ready_stages r
USING unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[]) AS v(c, namespace_id, job_uid, stage_no)
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.job_uid = v.job_uid AND r.stage_no = v.stage_no
RETURNING 1
