-- inspect_indexes: invalid indexes, of which the creation failed or has not finished.
SELECT c.relname::text
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace AND c.relkind = 'i'
LIMIT 5
