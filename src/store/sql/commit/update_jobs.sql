-- update_jobs: the roots that lock_jobs has locked. Labels are given only where they changed.
UPDATE jobs j
SET revision = v.revision, run = v.run, state = v.state, priority = v.priority, progress = v.progress,
    labels = coalesce(v.labels, j.labels), failure = v.failure, cancel_reason = v.cancel_reason, grace_until = v.grace_until,
    opens_at = v.opens_at, times_out_at = v.times_out_at, wakes_at = v.wakes_at, start_time = v.start_time,
    end_time = v.end_time, expire_time = v.expire_time, timeout_left_us = v.timeout_left_us
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int8[]) AS revision, unnest($5::int4[]) AS run, unnest($6::int2[]) AS state, unnest($7::int4[]) AS priority,
    unnest($8::float8[]) AS progress, unnest($9::jsonb[]) AS labels, unnest($10::json[]) AS failure,
    unnest($11::text[]) AS cancel_reason, unnest($12::timestamptz[]) AS grace_until, unnest($13::timestamptz[]) AS opens_at,
    unnest($14::timestamptz[]) AS times_out_at, unnest($15::timestamptz[]) AS wakes_at,
    unnest($16::timestamptz[]) AS start_time, unnest($17::timestamptz[]) AS end_time,
    unnest($18::timestamptz[]) AS expire_time, unnest($19::int8[]) AS timeout_left_us) AS v
JOIN ok USING (c)
WHERE j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
