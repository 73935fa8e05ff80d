-- load_leases: when the leases of a job end; a renewal changes no revision.
SELECT stage_no, token_secret, expires_at
FROM leases
WHERE namespace_id = $1 AND job_uid = $2
