-- lock_rows: locks rows in the order of their keys and waits for those that other transactions have locked; with NOWAIT behind it fails instead. The
-- next statement loads the rows and what is below them, and sees what the last holder of the locks committed.
SELECT 1
FROM unnest({keys}) AS k({columns})
JOIN {table} t ON {match}
ORDER BY {order}
FOR NO KEY UPDATE OF t
