-- delete_job_leases: what deleted jobs leave in this table.
DELETE FROM leases t
USING unnest($1::int4[], $2::int4[], $3::uuid[]) AS v(c, namespace_id, job_uid)
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.job_uid = v.job_uid
RETURNING 1
