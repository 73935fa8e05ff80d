-- empty_namespaces: namespaces that will be deleted, at their version and with nothing in them but idle locks. The row's lock excludes
-- everybody who puts something in; what was put in before it is seen (V9).
WITH locked AS MATERIALIZED (
    SELECT v.c, n.namespace_id
    FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::int8[]) AS version) AS v
    JOIN namespaces n ON n.namespace_id = v.namespace_id AND n.version = v.version
    FOR UPDATE OF n SKIP LOCKED
)
SELECT l.c FROM locked l WHERE namespace_is_empty(l.namespace_id)
