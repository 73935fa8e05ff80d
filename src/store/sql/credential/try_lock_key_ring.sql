-- try_lock_key_ring: locks the key ring, or fails where another transaction has locked it.
SELECT 1 FROM key_ring WHERE one FOR NO KEY UPDATE NOWAIT
