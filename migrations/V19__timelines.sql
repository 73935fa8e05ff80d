-- V19: timelines. A session is the root of its segments; segments are written only together with a proof of the session's version, and each
-- is loaded, checked and written by its own key, so that an append to a long session costs what a short one does.

-- The namespace is the first column of the index of the search. The extension is trusted: the owner of the database may create it.
CREATE EXTENSION IF NOT EXISTS btree_gin;

CREATE TABLE sessions (
    namespace_id  integer NOT NULL,
    session_uid   uuid NOT NULL,
    session_id    text COLLATE "C" NOT NULL,
    title         text,
    labels        jsonb,
    state         smallint NOT NULL,
    version       bigint NOT NULL,
    segment_count bigint NOT NULL,
    arrivals      bigint NOT NULL,
    retention_us  bigint NOT NULL,
    create_time   timestamptz NOT NULL,
    update_time   timestamptz NOT NULL,
    end_time      timestamptz,
    expire_time   timestamptz,
    PRIMARY KEY (namespace_id, session_uid),
    CONSTRAINT sessions_version CHECK (version > 0),
    CONSTRAINT sessions_state CHECK (state BETWEEN 1 AND 3)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
COMMENT ON COLUMN sessions.session_uid IS 'follows from session_id: itself where that is a version 7 UUID, else a hash of it';
COMMENT ON COLUMN sessions.title IS 'null: none';
COMMENT ON COLUMN sessions.state IS
    '1 OPEN, 2 ENDED, 3 deleted: its segments are being deleted, and only then the row; no read shows a session or a segment of it';
COMMENT ON COLUMN sessions.version IS 'grows by exactly one per committed change of the session or its segments';
COMMENT ON COLUMN sessions.segment_count IS 'segments that are not deleted';
COMMENT ON COLUMN sessions.arrivals IS 'segments that ever arrived, deleted ones included; the last arrival number';
COMMENT ON COLUMN sessions.retention_us IS 'microseconds the session is kept after its end';
COMMENT ON COLUMN sessions.expire_time IS 'when the clean-up deletes it, in state 3 when it continues to; null: it is OPEN';
-- Each append updates the row, and none of these columns changes with it, so it is an update in place. Begins with an expression for the same
-- reason as jobs_by_creation.
CREATE INDEX sessions_by_creation ON sessions ((namespace_id + 0), create_time, session_id);
CREATE INDEX sessions_by_end ON sessions ((namespace_id + 0), end_time, session_id) WHERE end_time IS NOT NULL;
CREATE INDEX sessions_to_delete ON sessions (expire_time) WHERE expire_time IS NOT NULL;

-- The vector of the search: the words in the language of the segment, and as they are, so that a search without a known language finds them
-- too. Between the two is a gap, which a tab that is no word makes: otherwise the last word would stand before the first one, and be a phrase with
-- it. A configuration cannot be chosen by a cast in an immutable function, but by its name in a CASE.
CREATE FUNCTION segment_vector(config text, words text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN config IS NULL THEN NULL
        WHEN config = 'simple' THEN pg_catalog.to_tsvector('pg_catalog.simple', words)
        ELSE pg_catalog.ts_delete(pg_catalog.to_tsvector('pg_catalog.simple', words) || E'''\t'':1000'::tsvector || CASE config
            WHEN 'arabic' THEN pg_catalog.to_tsvector('pg_catalog.arabic', words)
            WHEN 'armenian' THEN pg_catalog.to_tsvector('pg_catalog.armenian', words)
            WHEN 'basque' THEN pg_catalog.to_tsvector('pg_catalog.basque', words)
            WHEN 'catalan' THEN pg_catalog.to_tsvector('pg_catalog.catalan', words)
            WHEN 'danish' THEN pg_catalog.to_tsvector('pg_catalog.danish', words)
            WHEN 'dutch' THEN pg_catalog.to_tsvector('pg_catalog.dutch', words)
            WHEN 'english' THEN pg_catalog.to_tsvector('pg_catalog.english', words)
            WHEN 'finnish' THEN pg_catalog.to_tsvector('pg_catalog.finnish', words)
            WHEN 'french' THEN pg_catalog.to_tsvector('pg_catalog.french', words)
            WHEN 'german' THEN pg_catalog.to_tsvector('pg_catalog.german', words)
            WHEN 'greek' THEN pg_catalog.to_tsvector('pg_catalog.greek', words)
            WHEN 'hindi' THEN pg_catalog.to_tsvector('pg_catalog.hindi', words)
            WHEN 'hungarian' THEN pg_catalog.to_tsvector('pg_catalog.hungarian', words)
            WHEN 'indonesian' THEN pg_catalog.to_tsvector('pg_catalog.indonesian', words)
            WHEN 'irish' THEN pg_catalog.to_tsvector('pg_catalog.irish', words)
            WHEN 'italian' THEN pg_catalog.to_tsvector('pg_catalog.italian', words)
            WHEN 'lithuanian' THEN pg_catalog.to_tsvector('pg_catalog.lithuanian', words)
            WHEN 'nepali' THEN pg_catalog.to_tsvector('pg_catalog.nepali', words)
            WHEN 'norwegian' THEN pg_catalog.to_tsvector('pg_catalog.norwegian', words)
            WHEN 'portuguese' THEN pg_catalog.to_tsvector('pg_catalog.portuguese', words)
            WHEN 'romanian' THEN pg_catalog.to_tsvector('pg_catalog.romanian', words)
            WHEN 'russian' THEN pg_catalog.to_tsvector('pg_catalog.russian', words)
            WHEN 'serbian' THEN pg_catalog.to_tsvector('pg_catalog.serbian', words)
            WHEN 'spanish' THEN pg_catalog.to_tsvector('pg_catalog.spanish', words)
            WHEN 'swedish' THEN pg_catalog.to_tsvector('pg_catalog.swedish', words)
            WHEN 'tamil' THEN pg_catalog.to_tsvector('pg_catalog.tamil', words)
            WHEN 'turkish' THEN pg_catalog.to_tsvector('pg_catalog.turkish', words)
            WHEN 'yiddish' THEN pg_catalog.to_tsvector('pg_catalog.yiddish', words)
            ELSE ''::tsvector
        END, E'\t')
    END
$$;
COMMENT ON FUNCTION segment_vector IS
    'the words as they are, and stemmed by the named configuration, at the positions of the same text twice; an unknown name counts as simple. Null: there is no configuration or no text';

CREATE TABLE segments (
    namespace_id  integer NOT NULL,
    session_uid   uuid NOT NULL,
    key           text COLLATE "C" NOT NULL,
    arrival       bigint NOT NULL,
    version       bigint NOT NULL,
    kind          smallint NOT NULL,
    status        smallint NOT NULL,
    sequence      bigint NOT NULL,
    parent_key    text COLLATE "C",
    start_ns      bigint,
    end_ns        bigint,
    speaker       text COLLATE "C",
    language      text COLLATE "C",
    text          text,
    words         text,
    confidence    double precision,
    content       text,
    inline_data   bytea,
    metadata      text,
    create_time   timestamptz NOT NULL,
    update_time   timestamptz NOT NULL,
    delete_time   timestamptz,
    search_config text,
    search_text   text,
    search_vector tsvector GENERATED ALWAYS AS (segment_vector(search_config, coalesce(search_text, text))) STORED,
    PRIMARY KEY (namespace_id, session_uid, key),
    CONSTRAINT segments_kind CHECK (kind BETWEEN 1 AND 4),
    CONSTRAINT segments_status CHECK (status BETWEEN 1 AND 2),
    CONSTRAINT segments_range CHECK (start_ns >= 0 AND end_ns >= coalesce(start_ns, 0))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
-- Recordings do not get smaller.
ALTER TABLE segments ALTER COLUMN inline_data SET STORAGE EXTERNAL;
COMMENT ON COLUMN segments.arrival IS 'from 1 in the order of arrival in the session; never changes';
COMMENT ON COLUMN segments.version IS 'the version of the session at which the segment last changed: watchers resume by it';
COMMENT ON COLUMN segments.kind IS '1 AUDIO, 2 TRANSCRIPT, 3 TRANSLATION, 4 NOTE; never changes';
COMMENT ON COLUMN segments.status IS '1 INTERIM, 2 FINAL';
COMMENT ON COLUMN segments.parent_key IS 'the segment it was made from, which may be deleted by now; null: none';
COMMENT ON COLUMN segments.start_ns IS 'nanoseconds from the start of the session; null: not known';
COMMENT ON COLUMN segments.end_ns IS 'as start_ns, and not before it';
COMMENT ON COLUMN segments.words IS 'JSON text: a list of [word, start_ns, end_ns, confidence]; null: not known';
COMMENT ON COLUMN segments.content IS 'JSON text: uri, size_bytes, sha256 and media_type of the recording; null: none';
COMMENT ON COLUMN segments.inline_data IS 'the recording itself; null: it is elsewhere, or there is none';
COMMENT ON COLUMN segments.metadata IS 'JSON text: the caller''s own object';
COMMENT ON COLUMN segments.delete_time IS
    'null: it is not deleted. A deleted segment keeps its key, so that late appends do not bring it back and watchers that resume learn of it; all of its content is null. Its row goes with the session';
COMMENT ON COLUMN segments.search_config IS 'the configuration of the search, by name; null: the search does not find it, because it is INTERIM, has no text or is deleted';
COMMENT ON COLUMN segments.search_text IS 'the text with runs of Chinese, Japanese, Korean and Thai letters as pairs; null: the text has none';
-- Both begin with an expression for the same reason as jobs_by_creation: writes find segments by the primary key alone.
-- For the order of a timeline. A null start is last.
CREATE INDEX segments_by_start ON segments ((namespace_id + 0), session_uid, start_ns, arrival) WHERE delete_time IS NULL;
-- For watches: what changed after a version.
CREATE INDEX segments_by_version ON segments ((namespace_id + 0), session_uid, version, arrival);
CREATE INDEX segments_search ON segments USING gin (namespace_id, search_vector) WHERE search_vector IS NOT NULL;

-- As in V9; a session counts until its last segment is deleted.
CREATE OR REPLACE FUNCTION namespace_is_empty(id integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    all_of_them bigint;
    locked bigint;
BEGIN
    -- A lock that is there can be acquired without a look at the namespace. Whoever writes one has it locked, and then this fails.
    SELECT count(*) INTO locked
    FROM (SELECT FROM resources r WHERE r.namespace_id = id FOR UPDATE SKIP LOCKED) l;
    SELECT count(*) INTO all_of_them FROM resources r WHERE r.namespace_id = id;
    -- A permit whose time is up holds nothing, but its holder may be about to renew it: until the end of this, nobody can.
    PERFORM FROM permits p WHERE p.namespace_id = id FOR UPDATE;
    RETURN locked = all_of_them
        AND NOT EXISTS (SELECT FROM jobs j WHERE j.namespace_id = id)
        AND NOT EXISTS (SELECT FROM records r WHERE r.namespace_id = id)
        AND NOT EXISTS (SELECT FROM sessions s WHERE s.namespace_id = id)
        AND NOT EXISTS (SELECT FROM resources r WHERE r.namespace_id = id AND r.policy IS NOT NULL)
        AND NOT EXISTS (SELECT FROM permits p WHERE p.namespace_id = id AND p.permit ->> 'lost_at' IS NULL
            AND (p.expires_at IS NULL OR p.expires_at > clock_timestamp()))
        AND NOT EXISTS (SELECT FROM permit_waiters w WHERE w.namespace_id = id);
END
$$;
