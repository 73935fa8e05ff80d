-- find_leases: leases by key, each with its place among the keys and with the state of its job. The outer join keeps the planner from joining
-- leases by the key of the job alone, of which there may be thousands.
SELECT v.place, l.token_secret, l.fencing_token, l.duration_us, l.expires_at, j.revision, j.state, j.grace_until
FROM (SELECT unnest($1::int4[]) AS namespace_id, unnest($2::uuid[]) AS job_uid, unnest($3::int4[]) AS stage_no,
    unnest($4::int4[]) AS place) AS v
JOIN leases l ON l.namespace_id = v.namespace_id AND l.job_uid = v.job_uid AND l.stage_no = v.stage_no
LEFT JOIN jobs j ON j.namespace_id = l.namespace_id AND j.job_uid = l.job_uid
