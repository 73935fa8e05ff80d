-- try_lock_jobs: takes the locks of contended roots in key order, or fails where somebody has one; what is below them is loaded by the
-- next statement, which sees what the last holder did.
SELECT 1
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, job_uid)
JOIN jobs j ON j.namespace_id = k.namespace_id AND j.job_uid = k.job_uid
ORDER BY j.namespace_id, j.job_uid
FOR NO KEY UPDATE OF j NOWAIT
