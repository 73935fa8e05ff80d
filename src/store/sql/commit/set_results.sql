-- set_results: results of jobs; a new run sets them to null.
INSERT INTO job_documents (namespace_id, job_uid, result)
SELECT v.namespace_id, v.job_uid, v.result
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::json[]) AS result) AS v
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid) DO UPDATE SET result = excluded.result
RETURNING 1
