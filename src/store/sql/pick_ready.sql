-- pick_ready: reserves the first ready stages of queues for this server, as many as its workers wait for: of those that are leased alone
-- as many as there are workers, of the others as many as they have room for. The reservation keeps other servers from picking the same ones; it
-- ends by itself, should this server die before it has leased them; one that lasts longer than any does is from before the clock stepped back.
-- The picked rows are updated by their place: how many there are no plan knows beforehand, and a join by their keys reads the whole table
-- where it is large.
WITH picked AS MATERIALIZED (
    SELECT r.place
    FROM unnest($1::int4[], $2::text[], $3::bool[], $4::int8[]) AS w(namespace_id, queue, alone, wanted)
    CROSS JOIN LATERAL (
        SELECT r.ctid AS place
        FROM ready_stages r
        WHERE r.namespace_id = w.namespace_id AND r.queue = w.queue AND r.alone = w.alone
            AND r.blocked_on IS NULL
            AND (r.reserved_until IS NULL OR r.reserved_until < clock_timestamp()
                OR r.reserved_until > clock_timestamp() + interval '10 seconds')
        ORDER BY r.priority DESC, r.ready_at, r.job_uid, r.stage_no
        LIMIT w.wanted
        FOR UPDATE SKIP LOCKED
    ) r
)
UPDATE ready_stages t
SET reserved_by = $5, reserved_until = clock_timestamp() + interval '5 seconds'
WHERE t.ctid = ANY (ARRAY (SELECT p.place FROM picked p))
RETURNING t.namespace_id, t.job_uid, t.stage_no, t.queue, t.priority, t.ready_at, t.group_key, t.alone
