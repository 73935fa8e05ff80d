-- load_lease_documents: what a worker gets with the lease of a stage that has a row of its own: its input, and the artifacts of the stages it
-- depends on. These are a subquery, not a join: then there is only one way to find them, by the whole key (see load_jobs).
SELECT k.i::int4, p.input, d.stage_no,
    (SELECT a.artifacts FROM stage_artifacts a
    WHERE a.namespace_id = p.namespace_id AND a.job_uid = p.job_uid AND a.stage_no = d.stage_no)
FROM unnest($1::int4[], $2::uuid[], $3::int4[]) WITH ORDINALITY AS k(namespace_id, job_uid, stage_no, i)
JOIN stage_specs p ON p.namespace_id = k.namespace_id AND p.job_uid = k.job_uid AND p.stage_no = k.stage_no
LEFT JOIN LATERAL (SELECT value::int4 AS stage_no FROM json_array_elements_text(p.depends_on)) d ON true
