-- lock_jobs: the roots that will be written, where they still have the revision the decision stood on and are of the job it was
-- about: one that was made anew under the id of a deleted one counts from 1 again, and only its create_time tells it apart. A
-- row that somebody else is writing is skipped, not waited for: its component goes to the contended path.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int8[]) AS revision, unnest($5::timestamptz[]) AS create_time) AS v
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid AND j.revision = v.revision
    AND j.create_time = v.create_time
FOR NO KEY UPDATE OF j SKIP LOCKED
