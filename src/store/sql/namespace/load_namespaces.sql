-- load_namespaces: namespaces by number or by name, and whether they hold anything: a job, a record, a session, a resource with a policy, a permit
-- or a waiter. Idle locks do not count, nor permits that are lost or have expired.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time,
    EXISTS (SELECT FROM jobs j WHERE j.namespace_id = n.namespace_id)
        OR EXISTS (SELECT FROM records r WHERE r.namespace_id = n.namespace_id)
        OR EXISTS (SELECT FROM sessions s WHERE s.namespace_id = n.namespace_id)
        OR EXISTS (SELECT FROM resources r WHERE r.namespace_id = n.namespace_id AND r.policy IS NOT NULL)
        OR EXISTS (SELECT FROM permits p WHERE p.namespace_id = n.namespace_id AND p.permit ->> 'lost_at' IS NULL
            AND (p.expires_at IS NULL OR p.expires_at > clock_timestamp()))
        OR EXISTS (SELECT FROM permit_waiters w WHERE w.namespace_id = n.namespace_id)
FROM namespaces n
WHERE n.namespace_id = ANY($1::int4[]) OR n.name = ANY($2::text[])
