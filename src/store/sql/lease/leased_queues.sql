-- leased_queues: the number of leases of a namespace by queue; of the first $2 leases in the order of their jobs, and of one more if there are more.
-- Leases do not have the queue, so it is looked up in what was submitted of the stage. Null: stages that are run by name, or are gone.
SELECT s.queue, count(*)
FROM (
    SELECT CASE WHEN (q.spec ->> 'direct') IS DISTINCT FROM 'true' THEN q.spec ->> 'queue' END AS queue
    FROM (
        SELECT l.job_uid, l.stage_no
        FROM leases l
        WHERE l.namespace_id = $1::int4
        ORDER BY l.job_uid, l.stage_no
        LIMIT $2::int8 + 1
    ) l
    CROSS JOIN LATERAL (
        SELECT coalesce(
            (SELECT j.specs::json -> l.stage_no -> 'spec' FROM jobs j WHERE j.namespace_id = $1::int4 AND j.job_uid = l.job_uid),
            (SELECT s.spec FROM stage_specs s WHERE s.namespace_id = $1::int4 AND s.job_uid = l.job_uid AND s.stage_no = l.stage_no)
        ) AS spec
        OFFSET 0
    ) q
) s
GROUP BY s.queue
