-- list_workers: the workers of a namespace behind a name that hold leases, by name, at most $3; of the first $4 leases of the namespace in the
-- order of their jobs, and of one more if there are more. Of each worker the number of its leases, their queues, and the $5 stages that were
-- leased first. What was submitted of a stage is looked up for the workers of the page alone.
WITH held AS MATERIALIZED (
    SELECT l.job_uid, l.stage_no, l.worker_id COLLATE "C" AS worker_id, l.expires_at,
        l.expires_at - l.duration_us * interval '1 microsecond' AS renewed_at
    FROM leases l
    WHERE l.namespace_id = $1::int4
    ORDER BY l.job_uid, l.stage_no
    LIMIT $4::int8 + 1
), workers AS MATERIALIZED (
    SELECT h.worker_id
    FROM held h
    WHERE h.worker_id > $2::text COLLATE "C"
    GROUP BY h.worker_id
    ORDER BY h.worker_id
    LIMIT $3::int8
), stages AS (
    SELECT h.worker_id, h.expires_at, h.renewed_at, s.job_id, s.started, s.progress, s.spec ->> 'name' AS name,
        CASE WHEN (s.spec ->> 'direct') IS DISTINCT FROM 'true' THEN s.spec ->> 'queue' END AS queue,
        row_number() OVER (PARTITION BY h.worker_id ORDER BY s.started, h.job_uid, h.stage_no) AS place
    FROM held h
    JOIN workers w ON w.worker_id = h.worker_id
    CROSS JOIN LATERAL (
        SELECT j.job_id, j.specs::json -> h.stage_no -> 'spec' AS spec, (j.stages::json -> h.stage_no ->> 'start_time')::int8 AS started,
            (j.stages::json -> h.stage_no ->> 'progress')::float8 AS progress
        FROM jobs j
        WHERE j.namespace_id = $1::int4 AND j.job_uid = h.job_uid AND j.stages IS NOT NULL
        UNION ALL
        SELECT j.job_id, p.spec, (extract(epoch FROM s.start_time) * 1000000)::int8, s.progress
        FROM jobs j
        JOIN stages s ON s.namespace_id = $1::int4 AND s.job_uid = h.job_uid AND s.stage_no = h.stage_no
        JOIN stage_specs p ON p.namespace_id = $1::int4 AND p.job_uid = h.job_uid AND p.stage_no = h.stage_no
        WHERE j.namespace_id = $1::int4 AND j.job_uid = h.job_uid AND j.stages IS NULL
        OFFSET 0
    ) s
)
SELECT s.worker_id, (SELECT count(*) FROM held) AS looked_at, count(*) AS leases,
    array_remove(array_agg(DISTINCT s.queue COLLATE "C"), NULL) AS queues,
    (json_agg(json_build_object('job_id', s.job_id, 'name', s.name, 'queue', s.queue, 'start', s.started,
        'end', (extract(epoch FROM s.expires_at) * 1000000)::int8, 'progress', coalesce(s.progress, 0)) ORDER BY s.place)
        FILTER (WHERE s.place <= $5::int8))::text AS stages,
    min(s.started) AS started, max(s.renewed_at) AS renewed_at, min(s.expires_at) AS expires_at
FROM stages s
GROUP BY s.worker_id
ORDER BY s.worker_id
