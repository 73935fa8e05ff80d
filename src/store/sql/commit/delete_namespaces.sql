-- delete_namespaces: namespaces that empty_namespaces has locked.
DELETE FROM namespaces n
USING unnest($1::int4[], $2::int4[]) AS v(c, namespace_id)
JOIN ok USING (c)
WHERE n.namespace_id = v.namespace_id
RETURNING 1
