-- load_events: the history of several jobs, each since its creation (an earlier job of the same key is another one) and after a revision.
SELECT k.i::int4, e.revision, e.run, e.event_time, e.kind, e.job_state, e.worker_id, e.stages, e.progress
FROM unnest($1::int4[], $2::uuid[], $3::timestamptz[], $4::int8[])
    WITH ORDINALITY AS k(namespace_id, job_uid, since, known, i)
JOIN job_events e ON e.namespace_id = k.namespace_id AND e.job_uid = k.job_uid AND e.event_time >= k.since
    AND e.revision > k.known
ORDER BY k.i, e.revision
LIMIT $5
