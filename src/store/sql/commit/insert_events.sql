-- insert_events: history.
INSERT INTO job_events (namespace_id, job_uid, revision, event_time, run, kind, job_state, worker_id, stages, progress)
SELECT v.namespace_id, v.job_uid, v.revision, v.event_time, v.run, v.kind, v.job_state, v.worker_id, v.stages,
    v.progress
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS job_uid,
    unnest($4::int8[]) AS revision, unnest($5::timestamptz[]) AS event_time, unnest($6::int4[]) AS run,
    unnest($7::int2[]) AS kind, unnest($8::int2[]) AS job_state, unnest($9::text[]) AS worker_id,
    unnest($10::json[]) AS stages, unnest($11::float8[]) AS progress) AS v
JOIN ok USING (c)
RETURNING 1
