-- set_results: results of jobs; a new run sets them to null.
INSERT INTO job_documents (namespace_id, job_uid, result)
SELECT v.namespace_id, v.job_uid, v.result
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::json[]) AS v(c, namespace_id, job_uid, result)
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid) DO UPDATE SET result = excluded.result
RETURNING 1
