-- health: whether this is a primary that has at least two days of history's partitions ahead (without one no write succeeds), and
-- whether it can be written at all.
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
