-- delete_namespaces: namespaces that check_empty_namespaces has locked, with their idle locks; their highest fencing token is kept.
SELECT 1
FROM {rows}
JOIN ok USING (c)
WHERE delete_namespace(v.namespace_id)
