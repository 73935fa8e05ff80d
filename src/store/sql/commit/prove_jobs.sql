-- prove_jobs: roots that were only read by an answer that writes nothing, at the revision of the very job (see lock_jobs) it was
-- decided on; no lock, for it is enough that the answer was true at one instant.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int8[]) AS revision, unnest($5::timestamptz[]) AS create_time) AS v
JOIN jobs j ON j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid AND j.revision = v.revision
    AND j.create_time = v.create_time
