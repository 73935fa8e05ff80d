-- fence_jobs: roots that something else was written on the strength of, at the revision of the very job (see lock_jobs); shared
-- locks, so that none of them changes before the group is committed.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int8[], $5::timestamptz[])
    AS v(c, namespace_id, job_uid, revision, create_time)
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid AND j.revision = v.revision
    AND j.create_time = v.create_time
FOR SHARE OF j SKIP LOCKED
