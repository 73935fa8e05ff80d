-- lock_jobs: the roots that will be written, where they still have the revision the decision stood on. A row that somebody
-- else is writing is skipped, not waited for: its component goes to the contended path.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int8[]) AS v(c, namespace_id, job_uid, revision)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid AND j.revision = v.revision
FOR NO KEY UPDATE OF j SKIP LOCKED
