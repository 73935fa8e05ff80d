-- inspect_tables: tables in which dead rows outnumber live ones, by the statistics of autovacuum.
SELECT relname::text, n_dead_tup, n_live_tup
FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND n_dead_tup > 100000 AND n_dead_tup > n_live_tup
ORDER BY n_dead_tup DESC
LIMIT 5
