-- What a server committed and did not announce, because it was killed, is found by group and no longer by event. A group is one row, so an index on
-- its transaction costs next to nothing; the range index on the events was more than a third of what it costs to write one.
--
-- Servers older than this keep working until they are replaced, but a dashboard on one of them learns of what others did by hints alone.
ALTER TABLE write_groups
    ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN history bytea;
COMMENT ON COLUMN write_groups.xid IS 'the transaction that committed the group';
COMMENT ON COLUMN write_groups.history IS 'jobs of which the group wrote history: 28 bytes each, namespace, uid and version, big-endian; null if of none. Jobs of components that were not applied can be among them';
-- It is random bytes mostly, and its length is asked for without reading it.
ALTER TABLE write_groups ALTER COLUMN history SET STORAGE EXTERNAL;
CREATE INDEX write_groups_with_history ON write_groups (xid) WHERE history IS NOT NULL;

DROP INDEX job_events_by_xid;
ALTER TABLE job_events DROP COLUMN xid;
