-- delete_job_ready_stages: what deleted jobs leave in this table.
DELETE FROM ready_stages t
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid) AS v
JOIN ok USING (c)
WHERE t.namespace_id = v.namespace_id AND t.job_uid = v.job_uid
RETURNING 1
