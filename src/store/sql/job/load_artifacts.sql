-- load_artifacts: all artifacts of jobs.
SELECT j.namespace_id, j.job_uid, a.stage_no, a.artifacts
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, job_uid)
JOIN jobs j ON j.namespace_id = k.namespace_id AND j.job_uid = k.job_uid
CROSS JOIN LATERAL (
    SELECT o.key::int4 AS stage_no, o.value::text AS artifacts
    FROM json_each(j.artifacts::json) o
    WHERE json_typeof(o.value) <> 'null'
    UNION ALL
    SELECT a.stage_no, a.artifacts::text
    FROM stage_artifacts a
    WHERE a.namespace_id = k.namespace_id AND a.job_uid = k.job_uid AND j.stages IS NULL
) a
