-- update_specs: stages that their parent has added again as something else.
UPDATE stage_specs s
SET spec = v.spec, depends_on = v.depends_on, input = v.input, parent_no = v.parent_no, required_by = v.required_by,
    plan_digest = v.plan_digest
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::json[]) AS spec, unnest($6::json[]) AS depends_on,
    unnest($7::json[]) AS input, unnest($8::int4[]) AS parent_no, unnest($9::json[]) AS required_by,
    unnest($10::uuid[]) AS plan_digest) AS v
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
