-- delete_namespaces: namespaces that empty_namespaces has locked.
DELETE FROM namespaces n
USING (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id) AS v
JOIN ok USING (c)
WHERE n.namespace_id = v.namespace_id
RETURNING 1
