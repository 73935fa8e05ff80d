-- insert_stages: new stages, below roots of this group.
INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, token_secret,
    outcome_digest, progress, message, failure, wakes_at, start_time, end_time, permits, failures, parent_token)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.version, v.changed_revision, v.state, v.attempt, v.fencing_token,
    v.token_secret, v.outcome_digest, v.progress, v.message, v.failure, v.wakes_at, v.start_time, v.end_time, v.permits,
    v.failures, v.parent_token
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int4[]) AS stage_no, unnest($5::int8[]) AS version, unnest($6::int8[]) AS changed_revision,
    unnest($7::int2[]) AS state, unnest($8::int4[]) AS attempt, unnest($9::int8[]) AS fencing_token,
    unnest($10::uuid[]) AS token_secret, unnest($11::uuid[]) AS outcome_digest, unnest($12::float8[]) AS progress,
    unnest($13::text[]) AS message, unnest($14::json[]) AS failure, unnest($15::timestamptz[]) AS wakes_at,
    unnest($16::timestamptz[]) AS start_time, unnest($17::timestamptz[]) AS end_time, unnest($18::json[]) AS permits,
    unnest($19::json[]) AS failures, unnest($20::int8[]) AS parent_token) AS v
JOIN ok USING (c)
RETURNING 1
