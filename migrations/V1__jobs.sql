-- V1: namespaces, jobs of stages, leases, history and the memory of requests.
--
-- Every key begins with namespace_id, so that the tables can be partitioned or distributed by tenant or job. A job's
-- row is the root of everything below it: children are written only together with a proof of the root's revision.
-- Tables that change often are narrow, keep free space for updates in place, and have no index on what changes.

CREATE TABLE namespaces (
    namespace_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text COLLATE "C" NOT NULL UNIQUE,
    version       bigint NOT NULL DEFAULT 1,
    fencing_floor bigint NOT NULL DEFAULT 0,
    create_time   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT namespaces_name_length CHECK (octet_length(name) BETWEEN 1 AND 64)
);
COMMENT ON COLUMN namespaces.version IS 'grows by one with each change of the row';
COMMENT ON COLUMN namespaces.fencing_floor IS
    'the highest fencing token of any deleted job whose id may be used again; new stages start above it';
INSERT INTO namespaces (name) VALUES ('default');

CREATE TABLE jobs (
    namespace_id  integer NOT NULL,
    job_uid       uuid NOT NULL,
    job_id        text COLLATE "C" NOT NULL,
    kind          text COLLATE "C" NOT NULL,
    revision      bigint NOT NULL,
    run           integer NOT NULL,
    state         smallint NOT NULL,
    priority      integer NOT NULL,
    progress      double precision NOT NULL,
    labels        jsonb,
    failure       json,
    cancel_reason text,
    grace_until   timestamptz,
    opens_at      timestamptz,
    times_out_at  timestamptz,
    wakes_at      timestamptz,
    create_time   timestamptz NOT NULL,
    delayed_until timestamptz,
    start_time    timestamptz,
    end_time      timestamptz,
    expire_time   timestamptz,
    timeout_us    bigint,
    retention_us  bigint NOT NULL,
    retry         json,
    PRIMARY KEY (namespace_id, job_uid),
    CONSTRAINT jobs_state CHECK (state BETWEEN 1 AND 8),
    CONSTRAINT jobs_progress CHECK (progress BETWEEN 0 AND 1)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
COMMENT ON COLUMN jobs.job_uid IS 'follows from job_id: itself where that is a version 7 UUID, else a hash of it';
COMMENT ON COLUMN jobs.revision IS 'grows by exactly one per committed change of the job or its stages';
COMMENT ON COLUMN jobs.state IS
    '1 PENDING, 2 RUNNING, 3 PAUSED, 4 CANCELLING, 5 SUCCEEDED, 6 FAILED, 7 CANCELLED, 8 RUNNING with a failure that ends it';
COMMENT ON COLUMN jobs.grace_until IS 'in states 4 and 8: when those who still hold a stage lose it';
COMMENT ON COLUMN jobs.wakes_at IS 'the next moment at which something happens to the job by itself';
COMMENT ON COLUMN jobs.timeout_us IS 'microseconds a run may take';
COMMENT ON COLUMN jobs.retry IS 'the retry policy of stages that have none; null is the usual one';
COMMENT ON COLUMN jobs.retention_us IS 'microseconds the job is kept after its end';
-- Lists walk this one, newest first; none of its columns ever changes, so updates stay in place. It begins with an expression
-- on purpose: as long as the tables have no statistics, a plain namespace_id looks as selective as the whole key, and generic
-- plans that find a job by its key through this index read the whole namespace for each.
CREATE INDEX jobs_by_creation ON jobs ((namespace_id + 0), create_time, job_id);
CREATE INDEX jobs_by_end ON jobs (namespace_id, end_time, job_id) WHERE end_time IS NOT NULL;
CREATE INDEX jobs_to_wake ON jobs (wakes_at) WHERE wakes_at IS NOT NULL;

CREATE TABLE job_documents (
    namespace_id integer NOT NULL,
    job_uid      uuid NOT NULL,
    payload      json,
    result       json,
    PRIMARY KEY (namespace_id, job_uid)
);
COMMENT ON TABLE job_documents IS 'the caller''s own objects, apart from the row that changes with every revision';

CREATE TABLE stages (
    namespace_id     integer NOT NULL,
    job_uid          uuid NOT NULL,
    stage_no         integer NOT NULL,
    version          bigint NOT NULL,
    changed_revision bigint NOT NULL,
    state            smallint NOT NULL,
    attempt          integer NOT NULL,
    fencing_token    bigint NOT NULL,
    token_secret     uuid,
    outcome_digest   uuid,
    progress         double precision NOT NULL,
    message          text,
    failure          json,
    wakes_at         timestamptz,
    start_time       timestamptz,
    end_time         timestamptz,
    PRIMARY KEY (namespace_id, job_uid, stage_no),
    CONSTRAINT stages_state CHECK (state BETWEEN 1 AND 8),
    CONSTRAINT stages_progress CHECK (progress BETWEEN 0 AND 1)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
COMMENT ON COLUMN stages.stage_no IS 'position in the job, from 0 in the order of arrival';
COMMENT ON COLUMN stages.changed_revision IS 'the job''s revision at the stage''s last change, so that a reload takes only what is new';
COMMENT ON COLUMN stages.state IS
    '1 BLOCKED, 2 READY, 3 RUNNING, 4 BACKOFF, 5 SUCCEEDED, 6 FAILED, 7 CANCELLED, 8 SKIPPED';
COMMENT ON COLUMN stages.fencing_token IS 'the newest granted; never decreases';
COMMENT ON COLUMN stages.token_secret IS 'of the newest lease token, while its bearer may still say something';
COMMENT ON COLUMN stages.outcome_digest IS 'of what ended the stage for good, to recognise its repeat';
COMMENT ON COLUMN stages.wakes_at IS 'the end of a backoff, or of a running attempt''s time';
CREATE INDEX stages_to_wake ON stages (wakes_at) WHERE wakes_at IS NOT NULL;

CREATE TABLE stage_specs (
    namespace_id integer NOT NULL,
    job_uid      uuid NOT NULL,
    stage_no     integer NOT NULL,
    spec         json NOT NULL,
    depends_on   json NOT NULL,
    input        json,
    PRIMARY KEY (namespace_id, job_uid, stage_no)
);
COMMENT ON TABLE stage_specs IS 'what was submitted of a stage; depends_on holds stage numbers and alone may grow, by required_by';

CREATE TABLE stage_artifacts (
    namespace_id integer NOT NULL,
    job_uid      uuid NOT NULL,
    stage_no     integer NOT NULL,
    artifacts    json NOT NULL,
    PRIMARY KEY (namespace_id, job_uid, stage_no)
);

CREATE TABLE ready_stages (
    namespace_id   integer NOT NULL,
    job_uid        uuid NOT NULL,
    stage_no       integer NOT NULL,
    queue          text COLLATE "C" NOT NULL,
    priority       integer NOT NULL,
    ready_at       timestamptz NOT NULL,
    group_key      text COLLATE "C",
    reserved_by    uuid,
    reserved_until timestamptz,
    PRIMARY KEY (namespace_id, job_uid, stage_no)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE ready_stages IS 'what can be leased now: a row stands here exactly while its stage is READY, not direct, and its job hands out';
COMMENT ON COLUMN ready_stages.reserved_by IS 'the server that is about to lease it; no index, so that reserving updates in place';
-- Begins with the queue for the same reason as jobs_by_creation with an expression.
CREATE INDEX ready_stages_pick ON ready_stages (queue, namespace_id, priority DESC, ready_at, job_uid, stage_no);
CREATE INDEX ready_stages_group ON ready_stages (namespace_id, queue, group_key) WHERE group_key IS NOT NULL;

CREATE TABLE leases (
    namespace_id integer NOT NULL,
    job_uid      uuid NOT NULL,
    stage_no     integer NOT NULL,
    token_secret uuid NOT NULL,
    worker_id    text NOT NULL,
    duration_us  bigint NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, job_uid, stage_no)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE leases IS 'live leases; a renewal changes expires_at alone and no revision. No index on expires_at: renewals stay in place';
COMMENT ON COLUMN leases.duration_us IS 'microseconds a heartbeat extends it to';

CREATE TABLE job_events (
    namespace_id integer NOT NULL,
    job_uid      uuid NOT NULL,
    revision     bigint NOT NULL,
    event_time   timestamptz NOT NULL,
    run          integer NOT NULL,
    kind         smallint NOT NULL,
    job_state    smallint NOT NULL,
    worker_id    text,
    stages       json,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id()
) PARTITION BY RANGE (event_time);
COMMENT ON TABLE job_events IS 'one row per revision in which a state changed, kept by whole days; there is no DEFAULT partition on purpose';
COMMENT ON COLUMN job_events.xid IS 'the transaction that wrote it, to catch up on what a killed server did not announce';
CREATE INDEX job_events_by_revision ON job_events (namespace_id, job_uid, revision);

CREATE TABLE requests (
    namespace_id integer NOT NULL,
    request_id   uuid NOT NULL,
    digest       uuid NOT NULL,
    job_uids     bytea NOT NULL,
    stage_no     integer,
    revision     bigint NOT NULL,
    applied      boolean NOT NULL,
    create_time  timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, request_id)
);
COMMENT ON TABLE requests IS 'the first result of each request_id, for 24 hours';
COMMENT ON COLUMN requests.job_uids IS '16 bytes per job, in the order of the request';
CREATE INDEX requests_by_age ON requests USING brin (create_time);

CREATE TABLE write_groups (
    group_id    uuid PRIMARY KEY,
    components  integer[] NOT NULL,
    commit_time timestamptz NOT NULL
);
COMMENT ON TABLE write_groups IS 'one row per committed group, so that the outcome of a lost connection can be found out; kept for ten minutes';
COMMENT ON COLUMN write_groups.components IS 'the numbers of the parts of the group that were applied';
CREATE INDEX write_groups_by_age ON write_groups USING brin (commit_time);
