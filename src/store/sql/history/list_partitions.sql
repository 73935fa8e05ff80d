-- list_partitions: the partitions of history, oldest first; they are named job_events_YYYYMMDD.
SELECT c.relname::text
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'job_events'::regclass
ORDER BY c.relname
