-- update_jobs: changed jobs, under the lock of lock_jobs. Labels and documents are null where they did not change; an empty result removes the
-- result. A job without stages in its row has rows for them, and no documents here.
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
FROM {rows}
JOIN ok USING (c)
WHERE j.namespace_id = v.namespace_id AND j.job_uid = v.job_uid
RETURNING 1
