-- floor_namespaces: namespaces whose fencing floor was read, at their version. Whoever raises the floor waits or is
-- skipped, so that no job is created below it.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::int8[]) AS version) AS v
JOIN namespaces n ON n.namespace_id = v.namespace_id AND n.version = v.version
FOR SHARE OF n SKIP LOCKED
