-- V15: the reaper finds expired leases by an index, and a heartbeat proves its whole token by the lease's row.
--
-- Renewals change expires_at alone, which stays without an index, so they stay in place. check_at is written with the grant and moved by the
-- reaper, once in the life of most leases. Rows from before, and those that servers of the version before still write, are due for a
-- check at once; the reaper then moves them to their end.
ALTER TABLE leases
    ADD COLUMN check_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN fencing_token bigint;
CREATE INDEX leases_check_at ON leases (check_at);
COMMENT ON COLUMN leases.check_at IS 'when the reaper next checks whether the lease has expired; not after expires_at, except by seconds while leases are exempt';
COMMENT ON COLUMN leases.fencing_token IS 'of the lease token; null in rows that were written before V15';
