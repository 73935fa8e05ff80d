-- free_jobs: ids that were taken to be unused and are. Two who see the same id free collide in the insert, which undoes
-- the whole group of one of them.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid) AS v
WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid)
