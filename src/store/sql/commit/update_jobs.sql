-- update_jobs: the roots that lock_jobs has locked. Labels are given only where they changed.
UPDATE jobs j
SET revision = v.revision, run = v.run, state = v.state, priority = v.priority, progress = v.progress,
    labels = coalesce(v.labels, j.labels), failure = v.failure, cancel_reason = v.cancel_reason, grace_until = v.grace_until,
    opens_at = v.opens_at, times_out_at = v.times_out_at, wakes_at = v.wakes_at, start_time = v.start_time,
    end_time = v.end_time, expire_time = v.expire_time
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int8[], $5::int4[], $6::int2[], $7::int4[], $8::float8[], $9::jsonb[],
    $10::json[], $11::text[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[],
    $16::timestamptz[], $17::timestamptz[], $18::timestamptz[])
    AS v(c, namespace_id, job_uid, revision, run, state, priority, progress, labels, failure, cancel_reason, grace_until,
    opens_at, times_out_at, wakes_at, start_time, end_time, expire_time)
JOIN ok USING (c)
WHERE j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
