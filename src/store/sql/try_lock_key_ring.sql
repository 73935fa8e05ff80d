-- try_lock_key_ring: takes the lock of the key ring, or fails where somebody has it.
SELECT 1 FROM key_ring WHERE one FOR NO KEY UPDATE NOWAIT
