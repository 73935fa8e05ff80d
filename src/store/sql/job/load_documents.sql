-- load_documents: payloads and results of jobs. A key that is null finds nothing and reads nothing (see load_jobs).
SELECT j.namespace_id, j.job_uid, coalesce(j.payload, d.payload::text), coalesce(j.result, d.result::text)
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, job_uid)
JOIN jobs j ON j.namespace_id = k.namespace_id AND j.job_uid = k.job_uid
LEFT JOIN job_documents d ON d.namespace_id = CASE WHEN j.stages IS NULL THEN j.namespace_id END
    AND d.job_uid = CASE WHEN j.stages IS NULL THEN j.job_uid END
