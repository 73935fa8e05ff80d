-- share_lock: rows that a write was decided on without writing them, at the version that was read. The lock keeps them from changing before the group
-- is committed. A row that another transaction has locked is skipped, not waited for.
SELECT v.c
FROM {rows}
JOIN {table} t ON {match}
FOR SHARE OF t SKIP LOCKED
