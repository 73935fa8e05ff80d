-- list_jobs: the roots of a page of jobs, with how many stages are in each state, or the stages where the job holds them in its own row. What follows is put together from the
-- filter, with every value bound. The sum is what the index of lists begins with.
SELECT 0::int4, j.namespace_id, j.job_uid, j.job_id, j.kind, j.revision, j.run, j.state, j.priority, j.progress, j.labels,
    j.failure, j.cancel_reason, j.grace_until, j.opens_at, j.times_out_at, j.create_time, j.delayed_until, j.start_time,
    j.end_time, j.expire_time, j.timeout_us, j.retention_us, j.retry,
    (SELECT array[count(*) FILTER (WHERE s.state = 1), count(*) FILTER (WHERE s.state = 2),
        count(*) FILTER (WHERE s.state = 3), count(*) FILTER (WHERE s.state = 4), count(*) FILTER (WHERE s.state = 5),
        count(*) FILTER (WHERE s.state = 6), count(*) FILTER (WHERE s.state = 7), count(*) FILTER (WHERE s.state = 8)]
    FROM stages s WHERE s.namespace_id = j.namespace_id AND s.job_uid = j.job_uid AND j.stages IS NULL),
    j.timeout_left_us, j.stages
FROM jobs j
WHERE j.namespace_id + 0 = $1
