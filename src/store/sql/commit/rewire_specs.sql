-- rewire_specs: dependencies that changed because a stage is required by an old one, or no longer is.
UPDATE stage_specs s
SET depends_on = v.depends_on
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::json[]) AS depends_on) AS v
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
