-- V3: what those who watch a job need of its history.

ALTER TABLE job_events ADD COLUMN progress double precision;
COMMENT ON COLUMN job_events.progress IS 'of the job after this revision, 0 to 1; null in rows older than the column';

-- Which events were written after a transaction, to find what a killed server did not announce. A block range index, because
-- events come in the order of their transactions, nearly: it costs a write next to nothing.
CREATE INDEX job_events_by_xid ON job_events USING brin (((xid::text)::bigint)) WITH (pages_per_range = 16, autosummarize = on);
