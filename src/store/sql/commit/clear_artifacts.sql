-- clear_artifacts: artifacts of stages that run again; most have none.
DELETE FROM stage_artifacts a
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no) AS v
JOIN ok USING (c)
WHERE a.namespace_id = v.namespace_id AND a.job_uid = v.job_uid AND a.stage_no = v.stage_no
RETURNING 1
