-- due_jobs: jobs of which a timer is due: a delayed start, a timeout, the end of grace or of retention; and jobs that hold their stages in
-- their own row, of which a backoff or an attempt has ended. Per job whether a timer of its own is due, and the numbers of its stages of which
-- one is.
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
