-- pick_ready: the first ready stages of parts of queues, each from a position on, in order, at most `wanted` of each part. It locks and marks
-- nothing: the commit of the lease checks that the job is as it was. The position is one comparison of rows, with which the index begins; the
-- inner limit is a constant, from which the planner knows that few rows are read.
SELECT w.range::int4, r.namespace_id, r.job_uid, r.stage_no, r.priority, r.ready_at, r.group_key, r.alone
FROM unnest($1::int4[], $2::text[], $3::bool[], $4::int4[], $5::timestamptz[], $6::uuid[], $7::int4[], $8::int8[])
    WITH ORDINALITY AS w(namespace_id, queue, alone, rank, ready_at, job_uid, stage_no, wanted, range)
CROSS JOIN LATERAL (
    SELECT h.*
    FROM (
        SELECT r.namespace_id, r.job_uid, r.stage_no, r.priority, r.ready_at, r.group_key, r.alone
        FROM ready_stages r
        WHERE r.namespace_id = w.namespace_id AND r.queue = w.queue AND r.alone = w.alone AND r.blocked_on IS NULL
            AND (-r.priority, r.ready_at, r.job_uid, r.stage_no) >= (w.rank, w.ready_at, w.job_uid, w.stage_no)
        ORDER BY -r.priority, r.ready_at, r.job_uid, r.stage_no
        LIMIT 2000
    ) h
    LIMIT w.wanted
) r
