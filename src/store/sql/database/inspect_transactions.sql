-- inspect_transactions: the oldest transactions, which hold back the removal of dead rows.
SELECT pid::text, coalesce(application_name, ''), coalesce(state, ''), extract(epoch FROM now() - xact_start)::float8
FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND now() - xact_start > interval '1 minute'
UNION ALL
SELECT gid, owner::text, 'prepared', extract(epoch FROM now() - prepared)::float8
FROM pg_prepared_xacts
WHERE database = current_database() AND now() - prepared > interval '1 minute'
ORDER BY 4 DESC
LIMIT 5
