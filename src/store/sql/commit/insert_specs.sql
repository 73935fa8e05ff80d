-- insert_specs: what was submitted of new stages.
INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on, input)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.spec, v.depends_on, v.input
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::json[], $6::json[], $7::json[])
    AS v(c, namespace_id, job_uid, stage_no, spec, depends_on, input)
JOIN ok USING (c)
RETURNING 1
