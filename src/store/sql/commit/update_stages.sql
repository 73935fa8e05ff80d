-- update_stages: stages below roots that lock_jobs has locked.
UPDATE stages s
SET version = v.version, changed_revision = v.changed_revision, state = v.state, attempt = v.attempt,
    fencing_token = v.fencing_token, token_secret = v.token_secret, outcome_digest = v.outcome_digest, progress = v.progress,
    message = v.message, failure = v.failure, wakes_at = v.wakes_at, start_time = v.start_time, end_time = v.end_time,
    permits = v.permits, failures = v.failures, parent_token = v.parent_token
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::int8[]) AS version, unnest($6::int8[]) AS changed_revision,
    unnest($7::int2[]) AS state, unnest($8::int4[]) AS attempt, unnest($9::int8[]) AS fencing_token,
    unnest($10::uuid[]) AS token_secret, unnest($11::uuid[]) AS outcome_digest, unnest($12::float8[]) AS progress,
    unnest($13::text[]) AS message, unnest($14::json[]) AS failure, unnest($15::timestamptz[]) AS wakes_at,
    unnest($16::timestamptz[]) AS start_time, unnest($17::timestamptz[]) AS end_time, unnest($18::json[]) AS permits,
    unnest($19::json[]) AS failures, unnest($20::int8[]) AS parent_token) AS v
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
