-- insert_payloads: payloads of new jobs.
INSERT INTO job_documents (namespace_id, job_uid, payload)
SELECT v.namespace_id, v.job_uid, v.payload
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::json[]) AS v(c, namespace_id, job_uid, payload)
JOIN ok USING (c)
RETURNING 1
