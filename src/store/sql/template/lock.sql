-- lock: rows that are written, at the version that was read. A row that another transaction has locked is skipped, not waited for: its component
-- is committed again with locks that wait (lock_rows).
SELECT v.c
FROM {rows}
JOIN {table} t ON {match}
FOR NO KEY UPDATE OF t SKIP LOCKED
