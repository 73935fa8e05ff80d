-- stages_ahead: stages of which the attempt or the backoff ends later than it possibly can, because the clock stepped back after it began; in
-- the pages from $2 to before $3 of the table. The timeout of the attempt is a scalar subquery, so that it is found by its key and never
-- joined.
SELECT s.namespace_id, s.job_uid, s.stage_no
FROM stages s
WHERE s.ctid >= format('(%s,0)', $2::int8)::tid AND s.ctid < format('(%s,0)', $3::int8)::tid
    AND s.wakes_at > now() + interval '5 seconds'
    AND s.wakes_at > now() + interval '6 seconds' + make_interval(secs => CASE s.state
        WHEN 3 THEN (SELECT (p.spec #>> '{timeout,secs}')::float8 FROM stage_specs p
            WHERE p.namespace_id = s.namespace_id AND p.job_uid = s.job_uid AND p.stage_no = s.stage_no)
        ELSE (s.failure #>> '{retry_wait,secs}')::float8 END)
LIMIT $1
