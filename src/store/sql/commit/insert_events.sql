-- insert_events: history.
INSERT INTO job_events (namespace_id, job_uid, revision, event_time, run, kind, job_state, worker_id, stages, progress)
SELECT v.namespace_id, v.job_uid, v.revision, v.event_time, v.run, v.kind, v.job_state, v.worker_id, v.stages,
    v.progress
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int8[], $5::timestamptz[], $6::int4[], $7::int2[], $8::int2[], $9::text[],
    $10::json[], $11::float8[])
    AS v(c, namespace_id, job_uid, revision, event_time, run, kind, job_state, worker_id, stages, progress)
JOIN ok USING (c)
RETURNING 1
