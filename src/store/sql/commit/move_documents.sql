-- move_documents: documents of jobs that get rows for their stages, from the row of the job as it was. A result that goes is empty.
INSERT INTO job_documents (namespace_id, job_uid, payload, result)
SELECT v.namespace_id, v.job_uid, j.payload::json, nullif(coalesce(v.result, j.result), '')::json
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::text[]) AS result) AS v
JOIN ok USING (c)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
