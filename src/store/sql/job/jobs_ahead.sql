-- jobs_ahead: jobs of which the timeout or grace ends later than it possibly can, because the clock stepped back, and stages of jobs that hold
-- them in their own row (see stages_ahead); in the pages from $2 to before $3 of the table.
WITH waking AS MATERIALIZED (
    SELECT *
    FROM jobs j
    WHERE j.ctid >= format('(%s,0)', $2::int8)::tid AND j.ctid < format('(%s,0)', $3::int8)::tid
        AND j.wakes_at IS NOT NULL AND j.state NOT IN (5, 6, 7)
)
SELECT j.namespace_id, j.job_uid, NULL::int4
FROM waking j
WHERE j.opens_at IS NULL
        AND j.times_out_at > now() + j.timeout_us * interval '1 microsecond' + interval '5 seconds'
    OR j.state = 8 AND j.grace_until > now() + interval '35 seconds'
    OR j.state = 4 AND j.grace_until > now() + interval '24 hours 5 seconds'
UNION ALL
SELECT j.namespace_id, j.job_uid, e.no::int4 - 1
FROM waking j
CROSS JOIN LATERAL json_array_elements(j.stages::json) WITH ORDINALITY AS e(stage, no)
WHERE to_timestamp((e.stage ->> 'wakes_at')::int8 / 1000000.0) > now() + interval '6 seconds'
    + make_interval(secs => CASE (e.stage ->> 'state')::int4
        WHEN 3 THEN (j.specs::json #>> ARRAY[(e.no - 1)::text, 'spec', 'timeout', 'secs'])::float8
        ELSE (e.stage #>> '{failure,retry_wait,secs}')::float8 END)
LIMIT $1
