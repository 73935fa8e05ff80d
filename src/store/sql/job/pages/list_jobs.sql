-- list_jobs: jobs that match a filter, along one index, with the number of stages in each state; and the last job that was read where as many
-- were read as may be, whether it matches or not. What stands in braces is put together from the query, with every value bound. The sum is the
-- expression that the index of lists begins with.
SELECT 0::int4, j.namespace_id, j.job_uid, j.job_id, j.kind, j.revision, j.run, j.state, j.priority, j.progress, j.labels,
    j.failure, j.cancel_reason, j.grace_until, j.opens_at, j.times_out_at, j.create_time, j.delayed_until, j.start_time,
    j.end_time, j.expire_time, j.timeout_us, j.retention_us, j.retry,
    (SELECT array[count(*) FILTER (WHERE s.state = 1), count(*) FILTER (WHERE s.state = 2),
        count(*) FILTER (WHERE s.state = 3), count(*) FILTER (WHERE s.state = 4), count(*) FILTER (WHERE s.state = 5),
        count(*) FILTER (WHERE s.state = 6), count(*) FILTER (WHERE s.state = 7), count(*) FILTER (WHERE s.state = 8)]
    FROM stages s WHERE s.namespace_id = j.namespace_id AND s.job_uid = j.job_uid AND j.stages IS NULL),
    j.timeout_left_us, j.stages, j.matches, j.place = {most} AS is_last
FROM (
    SELECT j.*, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
    FROM (SELECT * FROM jobs j WHERE {range} ORDER BY {order} LIMIT {most}) j
) j
WHERE j.matches OR j.place = {most}
LIMIT {limit}
