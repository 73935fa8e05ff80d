-- stages_ahead: stages whose attempt began, or whose last one failed, later than it is: the clock stepped back since, and the end of the
-- attempt or of the backoff lies as much too far ahead.
SELECT s.namespace_id, s.job_uid, s.stage_no
FROM stages s
JOIN stage_specs p USING (namespace_id, job_uid, stage_no)
WHERE s.wakes_at IS NOT NULL AND s.wakes_at > now() + interval '5 seconds'
    AND s.wakes_at > now() + interval '6 seconds' + make_interval(secs => CASE s.state
        WHEN 3 THEN (p.spec #>> '{timeout,secs}')::float8
        ELSE (s.failure #>> '{retry_wait,secs}')::float8 END)
UNION ALL
SELECT j.namespace_id, j.job_uid, e.no::int4 - 1
FROM jobs j
CROSS JOIN LATERAL json_array_elements(j.stages::json) WITH ORDINALITY AS e(stage, no)
WHERE j.wakes_at IS NOT NULL AND j.state NOT IN (5, 6, 7)
    AND to_timestamp((e.stage ->> 'wakes_at')::int8 / 1000000.0) > now() + interval '6 seconds'
        + make_interval(secs => CASE (e.stage ->> 'state')::int4
            WHEN 3 THEN (j.specs::json #>> ARRAY[(e.no - 1)::text, 'spec', 'timeout', 'secs'])::float8
            ELSE (e.stage #>> '{failure,retry_wait,secs}')::float8 END)
LIMIT $1
