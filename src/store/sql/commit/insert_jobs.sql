-- insert_jobs: new roots, in key order. An id that another server inserted since it was seen free undoes the group.
INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, labels, failure, cancel_reason,
    grace_until, opens_at, times_out_at, wakes_at, create_time, delayed_until, start_time, end_time, expire_time,
    timeout_us, retention_us, retry)
SELECT v.namespace_id, v.job_uid, v.job_id, v.kind, v.revision, v.run, v.state, v.priority, v.progress, v.labels, v.failure,
    v.cancel_reason, v.grace_until, v.opens_at, v.times_out_at, v.wakes_at, v.create_time, v.delayed_until, v.start_time,
    v.end_time, v.expire_time, v.timeout_us, v.retention_us, v.retry
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::text[], $5::text[], $6::int8[], $7::int4[], $8::int2[], $9::int4[],
    $10::float8[], $11::jsonb[], $12::json[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[],
    $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[],
    $23::int8[], $24::int8[], $25::json[])
    AS v(c, namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, labels, failure, cancel_reason,
    grace_until, opens_at, times_out_at, wakes_at, create_time, delayed_until, start_time, end_time, expire_time, timeout_us,
    retention_us, retry)
JOIN ok USING (c)
RETURNING 1
