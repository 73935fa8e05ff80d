-- check_empty_namespaces: namespaces that are deleted, at their version and with nothing in them but idle locks. The lock excludes
-- transactions that put something into the namespace; what was put in before is seen (V9).
WITH locked AS MATERIALIZED (
    SELECT v.c, n.namespace_id
    FROM {rows}
    JOIN namespaces n ON n.namespace_id = v.namespace_id AND n.version = v.version
    FOR UPDATE OF n SKIP LOCKED
)
SELECT l.c FROM locked l WHERE namespace_is_empty(l.namespace_id)
