-- move_specs: what was submitted of stages of jobs that get rows for them. The row of the job as it was has their inputs.
INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on, input, parent_no, required_by, plan_digest)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.spec, v.depends_on, (j.inputs::json ->> v.stage_no::text)::json, v.parent_no, v.required_by, v.plan_digest
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::json[]) AS spec, unnest($6::json[]) AS depends_on,
    unnest($7::json[]) AS input, unnest($8::int4[]) AS parent_no, unnest($9::json[]) AS required_by,
    unnest($10::uuid[]) AS plan_digest) AS v
JOIN ok USING (c)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
