-- update_jobs: the roots that lock_jobs has locked. Labels and documents are given only where they changed; a result that goes is empty. A job
-- without stages in its row has rows for them, and nothing of them here.
UPDATE jobs j
SET revision = v.revision, run = v.run, state = v.state, priority = v.priority, progress = v.progress,
    labels = coalesce(v.labels, j.labels), failure = v.failure, cancel_reason = v.cancel_reason, grace_until = v.grace_until,
    opens_at = v.opens_at, times_out_at = v.times_out_at, wakes_at = v.wakes_at, start_time = v.start_time,
    end_time = v.end_time, expire_time = v.expire_time, timeout_left_us = v.timeout_left_us,
    stages = v.stages, specs = CASE WHEN v.stages IS NOT NULL THEN coalesce(v.specs, j.specs) END,
    payload = CASE WHEN v.stages IS NOT NULL THEN j.payload END,
    result = CASE WHEN v.stages IS NOT NULL THEN nullif(coalesce(v.result, j.result), '') END,
    inputs = CASE WHEN v.stages IS NULL THEN NULL WHEN v.inputs IS NULL THEN j.inputs WHEN j.inputs IS NULL THEN v.inputs
        ELSE merged_documents(j.inputs, v.inputs) END,
    artifacts = CASE WHEN v.stages IS NULL THEN NULL WHEN v.artifacts IS NULL THEN j.artifacts
        WHEN j.artifacts IS NULL THEN v.artifacts ELSE merged_documents(j.artifacts, v.artifacts) END
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int8[]) AS revision, unnest($5::int4[]) AS run, unnest($6::int2[]) AS state, unnest($7::int4[]) AS priority,
    unnest($8::float8[]) AS progress, unnest($9::jsonb[]) AS labels, unnest($10::json[]) AS failure,
    unnest($11::text[]) AS cancel_reason, unnest($12::timestamptz[]) AS grace_until, unnest($13::timestamptz[]) AS opens_at,
    unnest($14::timestamptz[]) AS times_out_at, unnest($15::timestamptz[]) AS wakes_at,
    unnest($16::timestamptz[]) AS start_time, unnest($17::timestamptz[]) AS end_time,
    unnest($18::timestamptz[]) AS expire_time, unnest($19::int8[]) AS timeout_left_us,
    unnest($20::text[]) AS stages, unnest($21::text[]) AS specs, unnest($22::text[]) AS result, unnest($23::text[]) AS inputs,
    unnest($24::text[]) AS artifacts) AS v
JOIN ok USING (c)
WHERE j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
