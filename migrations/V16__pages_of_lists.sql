-- V16: indexes that pages of lists walk, so that a page reads what it returns and little more.

-- Most jobs have priority 0 and are found by their creation: the index holds the others alone, and costs a job of priority 0 nothing.
CREATE INDEX jobs_by_priority ON jobs ((namespace_id + 0), priority, create_time, job_id) WHERE priority <> 0;

-- A record is created once, and its create_time never changes: updates stay in place. There is none on update_time on purpose: each update
-- would then write all index entries of its record anew, twice the WAL of an update in place.
CREATE INDEX records_by_creation ON records ((namespace_id + 0), collection, create_time, record_id) WHERE collection <> '';
