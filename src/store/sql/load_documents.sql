-- load_documents: payloads and results of jobs.
SELECT d.namespace_id, d.job_uid, d.payload, d.result
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, job_uid)
JOIN job_documents d ON d.namespace_id = k.namespace_id AND d.job_uid = k.job_uid
