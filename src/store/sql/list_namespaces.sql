-- list_namespaces: namespaces behind a name, in order of their names, that have one of some names or begin with one of some prefixes.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time, true
FROM namespaces n
WHERE n.name > $1 AND (n.name = ANY ($3) OR EXISTS (SELECT FROM unnest($4::text[]) AS prefix WHERE starts_with(n.name, prefix)))
ORDER BY n.name
LIMIT $2
