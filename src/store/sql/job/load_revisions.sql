-- load_revisions: the revisions of jobs.
SELECT j.namespace_id, j.job_uid, j.revision, j.create_time
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, job_uid)
JOIN jobs j ON j.namespace_id = k.namespace_id AND j.job_uid = k.job_uid
