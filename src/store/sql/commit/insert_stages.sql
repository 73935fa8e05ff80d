-- insert_stages: new stages, below roots of this group.
INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, token_secret,
    outcome_digest, progress, message, failure, wakes_at, start_time, end_time, permits)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.version, v.changed_revision, v.state, v.attempt, v.fencing_token,
    v.token_secret, v.outcome_digest, v.progress, v.message, v.failure, v.wakes_at, v.start_time, v.end_time, v.permits
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::int8[], $6::int8[], $7::int2[], $8::int4[], $9::int8[],
    $10::uuid[], $11::uuid[], $12::float8[], $13::text[], $14::json[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[],
    $18::json[])
    AS v(c, namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, token_secret,
    outcome_digest, progress, message, failure, wakes_at, start_time, end_time, permits)
JOIN ok USING (c)
RETURNING 1
