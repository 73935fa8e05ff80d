-- due_jobs: jobs to which something is due: a delayed start, a timeout, the end of grace or of retention; and of those that hold their stages in
-- their own row the stages whose backoff or attempt has ended. Whether it is anything but stages.
SELECT j.namespace_id, j.job_uid, coalesce(least(j.grace_until, j.opens_at, j.times_out_at, j.expire_time) <= now(), false) AS is_own, s.due
FROM jobs j
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(e.no::int4 - 1), '{}') AS due
    FROM json_array_elements(j.stages::json) WITH ORDINALITY AS e(stage, no)
    WHERE (e.stage ->> 'wakes_at')::int8 <= extract(epoch FROM now()) * 1000000
) s
WHERE j.wakes_at <= now()
ORDER BY j.wakes_at
LIMIT $1
