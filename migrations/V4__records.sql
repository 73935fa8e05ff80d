-- V4: records of named fields, and what is remembered of requests about several things.

-- A record is found by its own names: one index serves writes by key and lists in order. Each update writes the row anew, so half of
-- every page is kept free: the new version finds room beside the old one, and no index is touched.
CREATE TABLE records (
    namespace_id integer NOT NULL,
    collection   text COLLATE "C" NOT NULL,
    record_id    text COLLATE "C" NOT NULL,
    version      bigint NOT NULL,
    fields       json NOT NULL,
    apart        integer NOT NULL,
    create_time  timestamptz NOT NULL,
    update_time  timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, collection, record_id),
    CONSTRAINT records_version CHECK (version > 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
COMMENT ON COLUMN records.collection IS 'the caller''s word; empty for the context of a job, whose uid is then the record_id';
COMMENT ON COLUMN records.version IS 'grows by exactly one per committed change; in a job''s context it is the revision of the job that last changed it';
COMMENT ON COLUMN records.fields IS
    'field → [version at which it last changed, value]; only [version] where the value is in record_values. json and not jsonb, so that numbers stay as they were written';
COMMENT ON COLUMN records.apart IS 'how many of its values are in record_values';

CREATE TABLE record_values (
    namespace_id integer NOT NULL,
    collection   text COLLATE "C" NOT NULL,
    record_id    text COLLATE "C" NOT NULL,
    field        text COLLATE "C" NOT NULL,
    value        json NOT NULL,
    PRIMARY KEY (namespace_id, collection, record_id, field)
);
COMMENT ON TABLE record_values IS 'values of more than 256 bytes: a change of another field does not write them again';

ALTER TABLE requests ADD COLUMN versions bytea;
COMMENT ON COLUMN requests.versions IS
    '8 bytes for each thing that a request about several has written: its version after it, 0 where nothing changed';
