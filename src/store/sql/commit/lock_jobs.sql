-- lock_jobs: the roots that will be written, where they still have the revision the decision stood on and are of the job it was
-- about: one that was made anew under the id of a deleted one counts from 1 again, and only its create_time tells it apart. A
-- row that somebody else is writing is skipped, not waited for: its component goes to the contended path.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int8[], $5::timestamptz[])
    AS v(c, namespace_id, job_uid, revision, create_time)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid AND j.revision = v.revision
    AND j.create_time = v.create_time
FOR NO KEY UPDATE OF j SKIP LOCKED
