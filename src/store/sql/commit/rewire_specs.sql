-- rewire_specs: dependencies that grew because a new stage is required by an old one.
UPDATE stage_specs s
SET depends_on = v.depends_on
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::json[]) AS v(c, namespace_id, job_uid, stage_no, depends_on)
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
