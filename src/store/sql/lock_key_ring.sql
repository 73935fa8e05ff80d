-- lock_key_ring: takes the lock of the key ring, and waits for it.
SELECT 1 FROM key_ring WHERE one FOR NO KEY UPDATE
