-- insert_payloads: payloads of new jobs.
INSERT INTO job_documents (namespace_id, job_uid, payload)
SELECT v.namespace_id, v.job_uid, v.payload
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::json[]) AS payload) AS v
JOIN ok USING (c)
RETURNING 1
