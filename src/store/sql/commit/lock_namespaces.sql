-- lock_namespaces: namespaces whose floor will be raised, at their version.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::int8[]) AS v(c, namespace_id, version)
JOIN namespaces n ON n.namespace_id = v.namespace_id AND n.version = v.version
FOR NO KEY UPDATE OF n SKIP LOCKED
