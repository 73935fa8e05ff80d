-- insert_documents: payloads of new jobs, and their results where they have ended in the same group.
INSERT INTO job_documents (namespace_id, job_uid, payload, result)
SELECT v.namespace_id, v.job_uid, v.payload, v.result
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::json[]) AS payload, unnest($5::json[]) AS result) AS v
JOIN ok USING (c)
RETURNING 1
