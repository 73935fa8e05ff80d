-- move_documents: documents of jobs whose stages move to rows of their own, copied from the row of the job as it was. An empty result removes
-- the result.
INSERT INTO job_documents (namespace_id, job_uid, payload, result)
SELECT v.namespace_id, v.job_uid, j.payload::json, nullif(coalesce(v.result, j.result), '')::json
FROM {rows}
JOIN ok USING (c)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
