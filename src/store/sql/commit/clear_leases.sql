-- clear_leases: leases that ended.
DELETE FROM leases l
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no) AS v
JOIN ok USING (c)
WHERE l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
RETURNING 1
