-- held_tables: tables on which another session has, or waits for, a lock that excludes writes. A partition counts as its table.
SELECT DISTINCT coalesce(parent.relname, held.relname)::text
FROM pg_locks l
JOIN pg_class held ON held.oid = l.relation
LEFT JOIN pg_inherits i ON i.inhrelid = held.oid
LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE l.locktype = 'relation'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND l.pid IS DISTINCT FROM pg_backend_pid()
