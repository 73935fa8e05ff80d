-- delete_namespaces: namespaces that empty_namespaces has locked, with their idle locks; their highest fencing token is kept.
SELECT 1
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id) AS v
JOIN ok USING (c)
WHERE delete_namespace(v.namespace_id)
