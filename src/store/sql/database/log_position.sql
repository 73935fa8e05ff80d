-- log_position: where the write-ahead log of the primary ends, and which cluster it is.
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8 AS position,
       left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline,
       (SELECT system_identifier FROM pg_control_system()) AS cluster
