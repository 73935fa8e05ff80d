-- replica_position: how far a replica has received the write-ahead log, and of which cluster. NULL: it is no replica.
SELECT CASE WHEN pg_is_in_recovery()
            THEN pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::int8 END
           AS received,
       (SELECT system_identifier FROM pg_control_system()) AS cluster
