-- empty_namespaces: namespaces that will be deleted, at their version and without a job, a record or a resource with rules;
-- mere locks are forgotten by themselves. The lock excludes everybody who
-- is putting one in.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::int8[]) AS version) AS v
JOIN namespaces n ON n.namespace_id = v.namespace_id AND n.version = v.version
WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.namespace_id = v.namespace_id)
    AND NOT EXISTS (SELECT FROM records r WHERE r.namespace_id = v.namespace_id)
    AND NOT EXISTS (SELECT FROM resources r WHERE r.namespace_id = v.namespace_id AND r.policy IS NOT NULL)
FOR UPDATE OF n SKIP LOCKED
