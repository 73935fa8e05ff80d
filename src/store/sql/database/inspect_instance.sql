-- inspect_instance: version, role, encoding, size, age of the oldest row, connections and clock of the database.
SELECT current_setting('server_version_num')::integer,
    current_setting('server_version'),
    pg_is_in_recovery(),
    current_setting('server_encoding'),
    current_database(),
    pg_database_size(current_database()),
    (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()),
    has_database_privilege(current_database(), 'CREATE')
        AND coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name = current_setting('application_name')),
    extract(epoch FROM clock_timestamp())::float8
