-- insert_ready: new stages that can be leased from now on; what is new needs no look whether it is there.
INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, group_key)
SELECT v.namespace_id, v.job_uid, v.stage_no, v.queue, v.priority, v.ready_at, v.group_key
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::int4[], $5::text[], $6::int4[], $7::timestamptz[], $8::text[])
    AS v(c, namespace_id, job_uid, stage_no, queue, priority, ready_at, group_key)
JOIN ok USING (c)
RETURNING 1
