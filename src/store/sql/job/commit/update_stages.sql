-- update_stages: changed stages, under the lock of their job.
UPDATE stages s
SET version = v.version, changed_revision = v.changed_revision, state = v.state, attempt = v.attempt,
    fencing_token = v.fencing_token, token_secret = v.token_secret, outcome_digest = v.outcome_digest, progress = v.progress,
    message = v.message, failure = v.failure, wakes_at = v.wakes_at, start_time = v.start_time, end_time = v.end_time,
    permits = v.permits, failures = v.failures, parent_token = v.parent_token
FROM {rows}
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no
RETURNING 1
