-- fence_jobs: roots that something else was written on the strength of, at the revision of the very job (see lock_jobs); shared
-- locks, so that none of them changes before the group is committed.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int8[]) AS revision, unnest($5::timestamptz[]) AS create_time) AS v
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid AND j.revision = v.revision
    AND j.create_time = v.create_time
FOR SHARE OF j SKIP LOCKED
