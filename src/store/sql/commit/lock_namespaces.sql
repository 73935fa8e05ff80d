-- lock_namespaces: namespaces whose floor will be raised, at their version.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::int8[]) AS version) AS v
JOIN namespaces n ON n.namespace_id = v.namespace_id AND n.version = v.version
FOR NO KEY UPDATE OF n SKIP LOCKED
