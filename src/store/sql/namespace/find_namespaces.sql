-- find_namespaces: namespaces by number or by name. Whether they are empty is not read: another session may have locked tables of theirs, and
-- creating a job or a record only needs the namespace.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time, true
FROM namespaces n
WHERE n.namespace_id = ANY($1::int4[]) OR n.name = ANY($2::text[])
