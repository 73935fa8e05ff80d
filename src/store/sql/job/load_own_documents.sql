-- load_own_documents: documents of jobs that hold their stages in their own row, with their specs where there are artifacts; of other jobs,
-- that the documents have rows of their own.
SELECT k.i::int4, j.stages IS NULL, j.payload, j.inputs, j.artifacts, CASE WHEN j.artifacts IS NOT NULL THEN j.specs END
FROM unnest($1::int4[], $2::uuid[]) WITH ORDINALITY AS k(namespace_id, job_uid, i)
JOIN jobs j ON j.namespace_id = k.namespace_id AND j.job_uid = k.job_uid
