-- clear_leases: leases that ended.
DELETE FROM leases l
USING unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[]) AS v(c, namespace_id, job_uid, stage_no)
JOIN ok USING (c)
WHERE l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
RETURNING 1
