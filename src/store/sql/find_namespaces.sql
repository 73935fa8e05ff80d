-- find_namespaces: namespaces by number or by name. What they hold is not looked at: that is a matter of tables that a foreign session
-- may hold, and new jobs and records need no more than that their namespace is there.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time, true
FROM namespaces n
WHERE n.namespace_id = ANY($1::int4[]) OR n.name = ANY($2::text[])
