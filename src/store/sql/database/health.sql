-- health: whether this is a primary with at least two days of partitions of history ahead (without one no write succeeds), and whether it
-- accepts writes at all.
WITH here AS (
    SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS is_writable
)
SELECT is_writable AND 2 <= (
    SELECT count(*)
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'job_events'::regclass
        AND c.relname > 'job_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')
), is_writable
FROM here
