-- delayed_queues: the number of stages of a namespace by queue that wait for a time: for the start time of their job, or for the end of a
-- backoff. They are found by timers: by the next $2 timers of jobs and the next $2 of stages that have rows of their own, and by one more where
-- there are more. Of jobs that start later, the stages without dependencies wait for that; $3 stages of jobs are looked at, and one more where
-- there are more. The last column says whether anything was left out. Null: stages that are run by name, none if there is no stage.
WITH next_jobs AS MATERIALIZED (
    SELECT j.job_uid, j.state, j.opens_at, j.specs, j.stages
    FROM jobs j
    WHERE (j.namespace_id + 0) = $1::int4 AND j.wakes_at IS NOT NULL AND j.end_time IS NULL
    ORDER BY j.wakes_at
    LIMIT $2::int8 + 1
), next_stages AS MATERIALIZED (
    SELECT s.job_uid, s.stage_no, s.state
    FROM stages s
    WHERE (s.namespace_id + 0) = $1::int4 AND s.wakes_at IS NOT NULL
    ORDER BY s.wakes_at
    LIMIT $2::int8 + 1
), of_jobs AS MATERIALIZED (
    SELECT s.spec, s.is_delayed
    FROM next_jobs j
    CROSS JOIN LATERAL (
        SELECT e.stored -> 'spec' AS spec, CASE WHEN j.opens_at IS NULL THEN (j.stages::json -> (e.no::int4 - 1) ->> 'state')::int4 = 4
            ELSE e.stored -> 'depends_on' IS NULL END AS is_delayed
        FROM json_array_elements(j.specs::json) WITH ORDINALITY AS e(stored, no)
        UNION ALL
        SELECT p.spec, p.depends_on::text = '[]'
        FROM stage_specs p
        WHERE p.namespace_id = CASE WHEN j.stages IS NULL AND j.opens_at IS NOT NULL THEN $1::int4 END AND p.job_uid = j.job_uid
    ) s
    WHERE j.state <= 2
    LIMIT $3::int8 + 1
), delayed AS (
    SELECT s.spec
    FROM of_jobs s
    WHERE s.is_delayed
    UNION ALL
    SELECT p.spec
    FROM next_stages s
    CROSS JOIN LATERAL (
        SELECT (SELECT p.spec FROM stage_specs p WHERE p.namespace_id = $1::int4 AND p.job_uid = s.job_uid AND p.stage_no = s.stage_no) AS spec
        FROM jobs j
        WHERE j.namespace_id = $1::int4 AND j.job_uid = s.job_uid AND j.state <= 2
        OFFSET 0
    ) p
    WHERE s.state = 4
), counted AS (
    SELECT CASE WHEN (d.spec ->> 'direct') IS DISTINCT FROM 'true' THEN d.spec ->> 'queue' END AS queue, count(*) AS stages
    FROM delayed d
    GROUP BY 1
    UNION ALL
    SELECT NULL, 0
)
SELECT c.queue, c.stages, (SELECT count(*) FROM next_jobs) > $2 OR (SELECT count(*) FROM next_stages) > $2 OR (SELECT count(*) FROM of_jobs) > $3
FROM counted c
