-- lock_key_ring: locks the key ring and waits for the lock.
SELECT 1 FROM key_ring WHERE one FOR NO KEY UPDATE
