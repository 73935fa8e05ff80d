-- load_namespaces: namespaces by number or by name, and whether they hold a job, a record or a resource with rules;
-- mere locks are forgotten by themselves.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time,
    EXISTS (SELECT FROM jobs j WHERE j.namespace_id = n.namespace_id)
        OR EXISTS (SELECT FROM records r WHERE r.namespace_id = n.namespace_id)
        OR EXISTS (SELECT FROM resources r WHERE r.namespace_id = n.namespace_id AND r.policy IS NOT NULL)
FROM namespaces n
WHERE n.namespace_id = ANY($1::int4[]) OR n.name = ANY($2::text[])
