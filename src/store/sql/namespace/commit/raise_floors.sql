-- raise_floors: fencing floors of namespaces, under the lock of lock_namespaces.
UPDATE namespaces n
SET version = n.version + 1, fencing_floor = greatest(n.fencing_floor, v.fencing_floor)
FROM {rows}
JOIN ok USING (c)
WHERE n.namespace_id = v.namespace_id
RETURNING 1
