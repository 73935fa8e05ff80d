-- insert_namespaces: new namespaces. Their fencing tokens start above those of all deleted ones, which may have had the same name.
INSERT INTO namespaces ({columns}, fencing_floor)
SELECT {values}, g.fencing_floor
FROM {rows}
JOIN ok USING (c)
JOIN global_floor g ON g.one
RETURNING 1
