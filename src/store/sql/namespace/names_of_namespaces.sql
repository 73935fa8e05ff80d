-- names_of_namespaces: the names of namespaces.
SELECT n.namespace_id, n.name
FROM namespaces n
WHERE n.namespace_id = ANY ($1::int4[])
