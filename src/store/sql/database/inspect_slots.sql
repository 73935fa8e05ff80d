-- inspect_slots: replication slots, and the bytes of log that each keeps.
SELECT slot_name::text, active, coalesce(wal_status, ''),
    pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8
FROM pg_replication_slots
