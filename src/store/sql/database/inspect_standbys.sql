-- inspect_standbys: connected standbys; without the rights of pg_monitor all but the name is null.
SELECT coalesce(application_name, ''), coalesce(sync_state, ''),
    pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::float8,
    extract(epoch FROM replay_lag)::float8
FROM pg_stat_replication
