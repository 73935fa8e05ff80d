-- has_replayed: whether this is a replica that has replayed the write-ahead log up to a position.
SELECT pg_is_in_recovery() AND coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::int8 >= $1, false)
