-- raise_floors: fencing floors of namespaces that lock_namespaces has locked.
UPDATE namespaces n
SET version = n.version + 1, fencing_floor = greatest(n.fencing_floor, v.fencing_floor)
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::int8[]) AS fencing_floor) AS v
JOIN ok USING (c)
WHERE n.namespace_id = v.namespace_id
RETURNING 1
