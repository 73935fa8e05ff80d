-- set_ready: stages that can be leased from now on, or whose place in the queue changed.
INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, group_key, alone)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.queue, v.priority, v.ready_at, v.group_key, v.alone
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::text[]) AS queue, unnest($6::int4[]) AS priority,
    unnest($7::timestamptz[]) AS ready_at, unnest($8::text[]) AS group_key, unnest($9::bool[]) AS alone) AS v
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid, stage_no) DO UPDATE SET priority = excluded.priority, alone = excluded.alone
RETURNING 1
