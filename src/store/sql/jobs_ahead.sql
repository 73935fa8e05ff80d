-- jobs_ahead: jobs whose timeout or grace ends further ahead than it can, since the clock stepped back. Reads all jobs with a timer, so it
-- is asked only after a step was seen.
SELECT j.namespace_id, j.job_uid
FROM jobs j
WHERE j.wakes_at IS NOT NULL AND j.state NOT IN (5, 6, 7)
    AND (j.opens_at IS NULL
            AND j.times_out_at > now() + j.timeout_us * interval '1 microsecond' + interval '5 seconds'
        OR j.state = 8 AND j.grace_until > now() + interval '35 seconds'
        OR j.state = 4 AND j.grace_until > now() + interval '24 hours 5 seconds')
LIMIT $1
