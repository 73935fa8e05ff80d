-- list_namespaces: namespaces behind a name, in order of their names.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time, true
FROM namespaces n
WHERE n.name > $1
ORDER BY n.name
LIMIT $2
