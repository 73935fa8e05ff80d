-- load_jobs: jobs by key. A job that holds its stages in its own row comes with a row for each of its leases; another with its stages that
-- changed after a known revision (0, or another job of the same key: all), their specs and leases. One statement, so that root and children
-- are of one snapshot.
-- A key that is null finds nothing and reads nothing: so jobs that hold their stages cost no read of the other tables. All of the key depends
-- on the job, or a plan could take a part of it from k and find stages by their namespace.
-- Specs and leases are joined by the key of the stage alone, never by k's: while the tables have no statistics, the first two columns of the
-- key look as selective as all three, and a join that can take them from k reads all specs of the job for each of its stages.
SELECT k.i::int4, j.namespace_id, j.job_uid, j.job_id, j.kind, j.revision, j.run, j.state, j.priority, j.progress, j.labels,
    j.failure, j.cancel_reason, j.grace_until, j.opens_at, j.times_out_at, j.create_time, j.delayed_until, j.start_time,
    j.end_time, j.expire_time, j.timeout_us, j.retention_us, j.retry,
    coalesce(s.stage_no, o.stage_no), s.version, s.changed_revision, s.state, s.attempt, s.fencing_token, s.token_secret,
    s.outcome_digest, s.progress, s.message, s.failure, s.wakes_at, s.start_time, s.end_time,
    p.spec, p.depends_on,
    coalesce(l.worker_id, o.worker_id), coalesce(l.duration_us, o.duration_us), coalesce(l.expires_at, o.expires_at),
    s.permits, s.failures,
    p.parent_no, s.parent_token, p.required_by, p.plan_digest, j.timeout_left_us, j.specs, j.stages
FROM unnest($1::int4[], $2::uuid[], $3::int8[], $4::timestamptz[]) WITH ORDINALITY
    AS k(namespace_id, job_uid, known, made, i)
JOIN jobs j ON j.namespace_id = k.namespace_id AND j.job_uid = k.job_uid
LEFT JOIN leases o ON o.namespace_id = CASE WHEN j.stages IS NOT NULL THEN j.namespace_id END
    AND o.job_uid = CASE WHEN j.stages IS NOT NULL THEN j.job_uid END
LEFT JOIN stages s ON s.namespace_id = CASE WHEN j.stages IS NULL THEN j.namespace_id END
    AND s.job_uid = CASE WHEN j.stages IS NULL THEN j.job_uid END
    AND s.changed_revision > CASE WHEN j.create_time = k.made THEN k.known ELSE 0 END
LEFT JOIN stage_specs p ON p.namespace_id = s.namespace_id AND p.job_uid = s.job_uid AND p.stage_no = s.stage_no
LEFT JOIN leases l ON l.namespace_id = s.namespace_id AND l.job_uid = s.job_uid AND l.stage_no = s.stage_no
ORDER BY k.i, s.stage_no
