-- update_stages: stages below roots that lock_jobs has locked.
UPDATE stages s
SET version = v.version, changed_revision = v.changed_revision, state = v.state, attempt = v.attempt,
    fencing_token = v.fencing_token, token_secret = v.token_secret, outcome_digest = v.outcome_digest, progress = v.progress,
    message = v.message, failure = v.failure, wakes_at = v.wakes_at, start_time = v.start_time, end_time = v.end_time,
    permits = v.permits
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::int8[], $6::int8[], $7::int2[], $8::int4[], $9::int8[],
    $10::uuid[], $11::uuid[], $12::float8[], $13::text[], $14::json[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[],
    $18::json[])
    AS v(c, namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, token_secret,
    outcome_digest, progress, message, failure, wakes_at, start_time, end_time, permits)
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
