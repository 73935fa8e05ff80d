-- list_partitions: the days that history has partitions for, oldest first; names are job_events_YYYYMMDD.
SELECT c.relname::text
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'job_events'::regclass
ORDER BY c.relname
