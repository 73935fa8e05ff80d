-- inspect_schema: the newest migration, the number of days ahead for which history has a partition, and the servers that are present.
SELECT (SELECT max(version) FROM refinery_schema_history),
    (SELECT count(*)
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass('job_events')
            AND c.relname > 'job_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')),
    (SELECT count(*) FROM servers WHERE alive_until > clock_timestamp())
