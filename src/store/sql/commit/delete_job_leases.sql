-- delete_job_leases: what deleted jobs leave in this table.
DELETE FROM leases t
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid) AS v
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.job_uid = v.job_uid
RETURNING 1
