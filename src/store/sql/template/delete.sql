-- delete: rows by their keys, or by the first columns of them. Rows below a root are deleted under the lock of that root.
DELETE FROM {table} t
USING {rows}
JOIN ok USING (c)
WHERE {match}
RETURNING 1
