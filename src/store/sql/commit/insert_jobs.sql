-- insert_jobs: new roots, in key order. An id that another server inserted since it was seen free undoes the group.
INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, labels, failure, cancel_reason,
    grace_until, opens_at, times_out_at, wakes_at, create_time, delayed_until, start_time, end_time, expire_time,
    timeout_us, retention_us, retry, timeout_left_us, specs, stages, payload, result, inputs, artifacts)
SELECT v.namespace_id, v.job_uid, v.job_id, v.kind, v.revision, v.run, v.state, v.priority, v.progress, v.labels, v.failure,
    v.cancel_reason, v.grace_until, v.opens_at, v.times_out_at, v.wakes_at, v.create_time, v.delayed_until, v.start_time,
    v.end_time, v.expire_time, v.timeout_us, v.retention_us, v.retry, v.timeout_left_us, v.specs, v.stages, v.payload, v.result,
    v.inputs, v.artifacts
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::text[]) AS job_id, unnest($5::text[]) AS kind, unnest($6::int8[]) AS revision, unnest($7::int4[]) AS run,
    unnest($8::int2[]) AS state, unnest($9::int4[]) AS priority, unnest($10::float8[]) AS progress,
    unnest($11::jsonb[]) AS labels, unnest($12::json[]) AS failure, unnest($13::text[]) AS cancel_reason,
    unnest($14::timestamptz[]) AS grace_until, unnest($15::timestamptz[]) AS opens_at,
    unnest($16::timestamptz[]) AS times_out_at, unnest($17::timestamptz[]) AS wakes_at,
    unnest($18::timestamptz[]) AS create_time, unnest($19::timestamptz[]) AS delayed_until,
    unnest($20::timestamptz[]) AS start_time, unnest($21::timestamptz[]) AS end_time,
    unnest($22::timestamptz[]) AS expire_time, unnest($23::int8[]) AS timeout_us, unnest($24::int8[]) AS retention_us,
    unnest($25::json[]) AS retry, unnest($26::int8[]) AS timeout_left_us,
    unnest($27::text[]) AS specs, unnest($28::text[]) AS stages, unnest($29::text[]) AS payload, unnest($30::text[]) AS result,
    unnest($31::text[]) AS inputs, unnest($32::text[]) AS artifacts) AS v
JOIN ok USING (c)
RETURNING 1
